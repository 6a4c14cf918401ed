package claudepool

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/claudepool/claudepool/internal/catalog"
)

// ErrUnknownWorkflow: no workflow has that name.
var ErrUnknownWorkflow = errors.New("unknown workflow")

// RegisteredWorkflow is a workflow as a [WorkflowRegistry] has it.
type RegisteredWorkflow struct {
	Workflow
	Source Source `json:"source"`
	// Path is the file it was read from; empty for one added at run time.
	Path string `json:"path,omitempty"`
	// Problem says what is wrong, as path:line: message, with a file that would
	// count if it could be used; while it cannot, this older or weaker text
	// does. Empty if there is none.
	Problem string `json:"problem,omitempty"`
}

// WorkflowRegistry knows the workflows of four sources, which are YAML files; see
// [Source]. It treats its files and its callers as a [SkillRegistry] does.
type WorkflowRegistry struct{ r registry[Workflow] }

// NewWorkflowRegistry returns a registry. A name among o.Disabled that no
// workflow can have is an [*InvalidError].
func NewWorkflowRegistry(o SourceOptions) (*WorkflowRegistry, error) {
	r := &WorkflowRegistry{r: registry[Workflow]{
		what: "workflow", unknown: ErrUnknownWorkflow,
		file: func(name string) string { return name + ".yaml" },
	}}
	err := r.r.open(o, "workflows", catalog.Kind[Workflow]{
		File: func(e fs.DirEntry) (string, string, bool) {
			for _, ext := range []string{".yaml", ".yml"} {
				if name, ok := strings.CutSuffix(e.Name(), ext); ok {
					return e.Name(), name, true
				}
			}
			return "", "", false
		},
		Parse: parseWorkflow,
		Name:  func(w Workflow) string { return w.Name },
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func registeredWorkflow(it catalog.Item[Workflow]) RegisteredWorkflow {
	return RegisteredWorkflow{Workflow: it.Value.clone(), Source: Source(it.Source), Path: it.Path, Problem: firstProblem(it.Broken)}
}

// Workflow returns the workflow of a name as its file is now. An unknown name is
// [ErrUnknownWorkflow].
func (r *WorkflowRegistry) Workflow(name string) (RegisteredWorkflow, error) {
	it, err := r.r.get(name)
	if err != nil {
		return RegisteredWorkflow{}, err
	}
	return registeredWorkflow(it), nil
}

// Workflows returns all workflows by name.
func (r *WorkflowRegistry) Workflows() []RegisteredWorkflow {
	var out []RegisteredWorkflow
	for _, it := range r.r.items.All() {
		out = append(out, registeredWorkflow(it))
	}
	return out
}

// Problems returns what is wrong with the files now, by source and path.
func (r *WorkflowRegistry) Problems() []FileProblem { return r.r.problems() }

// Generation looks at the files and returns a number that is another one
// whenever a workflow or a problem has come, changed or gone.
func (r *WorkflowRegistry) Generation() uint64 { return r.r.items.Generation() }

// Add adds a workflow until the program ends, in the place of one that was
// added under its name before, and before all files of that name. A workflow
// that cannot be run is an [*InvalidError].
func (r *WorkflowRegistry) Add(w Workflow) error {
	w = w.clone()
	if err := w.validate(); err != nil {
		return err
	}
	if !r.r.items.Add(w.Name, w) {
		return invalidField("name", "is %q, which is disabled here", w.Name)
	}
	return nil
}

// Remove takes away a workflow that was added at run time. One of the same name
// from a file counts again. Workflows from files are not touched: that is an
// [*InvalidError].
func (r *WorkflowRegistry) Remove(name string) error { return r.r.remove(name) }

// Eject writes a built-in workflow to a file in dir, so that it can be edited
// there, and returns its path. Empty means the project's folder of workflows;
// else dir must be that one or the global one, relative to the project or not.
// What is there is never written over ([fs.ErrExist]).
func (r *WorkflowRegistry) Eject(name, dir string) (string, error) { return r.r.eject(name, dir) }
