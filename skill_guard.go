package claudepool

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/claudepool/claudepool/internal/catalog"
)

// guards are the rules that keep slots from writing the files of skills and
// workflows that the pool reads. A skill can allow itself tools, and counts as
// soon as it is written: a slot that may edit files could else give itself what
// nobody has given it.
func (c *PoolConfig) guards() []string {
	var rules []string
	for _, f := range slices.Concat(c.Skills.r.folders(), c.Workflows.r.folders()) {
		// Edit stands for all tools that write files, and // for the root.
		rule := "Edit(/" + noPattern.Replace(filepath.ToSlash(f.Dir())) + "/**)"
		if !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// noPattern takes the meaning from what would be a pattern in a rule's path.
var noPattern = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// folders are those in the file system.
func (r *registry[T]) folders() []*catalog.Folder {
	return slices.DeleteFunc([]*catalog.Folder{r.project, r.global}, func(f *catalog.Folder) bool { return f == nil })
}
