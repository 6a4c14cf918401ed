package sqlitestore

// diskFull is not known here: SQLite says it by itself.
func (s *Store) diskFull() bool { return false }
