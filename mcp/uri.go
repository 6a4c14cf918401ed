package mcp

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/claudepool/claudepool"
)

// The resources that are always there.
const (
	statusURI  = "pool://status"
	slotsURI   = "pool://slots"
	budgetURI  = "pool://budget"
	contextURI = "pool://context"
)

// The beginnings of those that there are many of.
const (
	slotPrefix       = "pool://slots/"
	taskPrefix       = "pool://tasks/"
	chainPrefix      = "pool://chains/"
	resultPrefix     = "pool://results/"
	transcriptPrefix = "pool://transcripts/"
)

func resultURI(id claudepool.TaskID) string { return resultPrefix + string(id) }
func chainURI(id claudepool.TaskID) string  { return chainPrefix + string(id) }

// idPattern is what the id of a task or a slot looks like. It has no slash, and
// dots only within, so that no id leads out of a folder.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// maxID bounds such an id.
const maxID = 200

// idIn returns the id at the end of a resource's URI.
func idIn(uri, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(uri, prefix)
	if !ok {
		return "", false
	}
	id, err := url.PathUnescape(rest)
	return id, err == nil && len(id) <= maxID && idPattern.MatchString(id)
}
