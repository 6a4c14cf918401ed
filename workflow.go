package claudepool

// WorkflowRegistry knows the workflows.
type WorkflowRegistry struct{}
