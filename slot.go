package claudepool

// SlotState is where a slot stands.
type SlotState string

// The states of a slot.
const (
	SlotStarting   SlotState = "starting"   // its process is being started, or waits for room to start
	SlotIdle       SlotState = "idle"       // ready for a task
	SlotBusy       SlotState = "busy"       // runs a task
	SlotResetting  SlotState = "resetting"  // forgets the last task
	SlotRestarting SlotState = "restarting" // its process failed; it pauses before the next start
	SlotErrored    SlotState = "errored"    // its process failed too often; it is left alone for a while
	SlotDraining   SlotState = "draining"   // finishes its task, then stops
	SlotStopped    SlotState = "stopped"
)

// SlotStates lists every state of a slot.
func SlotStates() []SlotState {
	return []SlotState{SlotStarting, SlotIdle, SlotBusy, SlotResetting, SlotRestarting, SlotErrored, SlotDraining, SlotStopped}
}
