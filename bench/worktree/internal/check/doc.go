// Package check looks from outside at a repository, at the places that agents
// worked in, and says what of the promise "work is never deleted" does not hold.
//
// It knows nothing of the package that makes the places: it reads files and git's
// objects by itself. What it compares them with is what the host said ([Line]),
// and what it found in the places when the host had died.
package check

// Op says what a [Line] tells.
type Op string

// The values of [Op]. Those that end in "ing" are said before a call, as what it
// does may stay although nobody is told; the rest after it returned.
const (
	OpOpened    Op = "opened"    // the manager is there
	OpAcquired  Op = "acquired"  // Root and Kind of a place
	OpBeginning Op = "beginning" // Work, From; Root
	OpBegun     Op = "begun"     // the same, and Inv: what it begins with
	OpDoing     Op = "doing"     // What an agent does in Root, to which Paths, or to All
	OpDid       Op = "did"       // Inv: what is there now
	OpEnding    Op = "ending"    // Inv: what counts as written
	OpEnded     Op = "ended"     // Branch and After: its head
	OpReleasing Op = "releasing" // Inv, if there is work that did not end
	OpReleased  Op = "released"
	OpMerging   Op = "merging" // Branch into Target; All: its checkout may be moved
	OpMerged    Op = "merged"  // Before and After, if it was
	OpClosed    Op = "closed"
	OpFailed    Op = "failed" // Text: something that should not be
)

// Line is something that a host has to say.
type Line struct {
	Op     Op         `json:"op"`
	Root   string     `json:"root,omitempty"`
	Kind   string     `json:"kind,omitempty"`
	Work   string     `json:"work,omitempty"`
	From   string     `json:"from,omitempty"`
	Branch string     `json:"branch,omitempty"`
	Target string     `json:"target,omitempty"`
	Before string     `json:"before,omitempty"`
	After  string     `json:"after,omitempty"`
	What   string     `json:"what,omitempty"`
	Paths  []string   `json:"paths,omitempty"`
	All    bool       `json:"all,omitempty"`
	Inv    *Inventory `json:"inv,omitempty"`
	Text   string     `json:"text,omitempty"`
}
