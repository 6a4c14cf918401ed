package sqlitestore

// What is read out of the files of /proc.
var (
	LockHolder = lockHolder
	Blame      = blame
)
