package check

// Sums counts what a store holds.
type Sums struct {
	Tasks, Pending, Running, Review, Completed, Failed, Cancelled int
	// Lost counts the attempts that were lost or crashed, Orphaned the claims
	// that are held.
	Lost, Orphaned int
	// Money in microdollars. Assumed is the part of Estimated of which no figure
	// was seen, Unasked that for tasks about which the model was never asked.
	Spent, Estimated, Assumed, Unasked int64
	// By counts the tasks that have failed by the class of their outcome.
	By map[string]int
}

// Sums counts what the snapshot holds. The witness knows what agents were asked.
func (s *Snapshot) Sums(w *Witness) Sums {
	out := Sums{Tasks: len(s.tasks), Spent: s.totals.spent, By: map[string]int{}}
	for _, t := range s.tasks {
		switch t.state {
		case "pending":
			out.Pending++
		case "running":
			out.Running++
		case "pending_review":
			out.Review++
		case "completed":
			out.Completed++
		case "failed":
			out.Failed++
			out.By[t.outcome]++
		case "cancelled":
			out.Cancelled++
		}
		if t.claimFence.Valid {
			out.Orphaned++
		}
		for _, c := range t.claims {
			if a := c.attempt; a != nil {
				if a.Outcome == "lost" || a.Outcome == "crashed" {
					out.Lost++
				}
				out.Assumed += a.Assumed
				if a.Estimated {
					out.Estimated += a.Cost
					if w.prompts[t.mark] == 0 {
						out.Unasked += a.Cost
					}
				}
			}
		}
	}
	return out
}

// Drained returns what is left of a store whose pools have done all work and
// were closed.
func (s *Snapshot) Drained() []string {
	var f findings
	for _, t := range s.tasks {
		if !t.terminal() {
			f.add("P1: task %v is left after everything was done", t)
		}
		if t.claimFence.Valid {
			f.add("P3: task %v has a claim after everything was done", t)
		}
	}
	if s.instances != 0 || s.slots != 0 {
		f.add("store: %d pools and %d slots are recorded after they were closed", s.instances, s.slots)
	}
	return f
}
