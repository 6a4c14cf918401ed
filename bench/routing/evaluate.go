package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/claudepool/claudepool"
	"golang.org/x/sync/errgroup"
)

// router decides about a request.
type router func(ctx context.Context, request string) (claudepool.Route, error)

// answer is what became of a sample.
type answer struct {
	sample
	route claudepool.Route
}

// evaluate asks about every sample, so many at once. The first error, which is
// one that no fallback covers, ends it.
func evaluate(ctx context.Context, all []sample, atOnce int, route router) ([]answer, error) {
	out := make([]answer, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, s := range all {
		g.Go(func() error {
			r, err := route(ctx, s.Request)
			if err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
			out[i] = answer{s, r}
			return nil
		})
	}
	return out, g.Wait()
}

// score counts answers. A fallback is never right: it is no decision.
type score struct{ asked, exact, right, fallbacks int }

func (s *score) add(a answer) {
	s.asked++
	switch {
	case a.route.Fallback != "":
		s.fallbacks++
	case a.route.Kind == a.Expect:
		s.exact++
		s.right++
	case a.right(a.route.Kind):
		s.right++
	}
}

func (s score) String() string {
	percent := func(n int) int { return (100*n + s.asked/2) / max(s.asked, 1) }
	return fmt.Sprintf("%d\t%d (%d %%)\t%d (%d %%)\t%d", s.asked, s.right, percent(s.right), s.exact, percent(s.exact), s.fallbacks)
}

// scores returns the score of each class and that of all.
func scores(answers []answer) (classes map[claudepool.RouteKind]score, all score) {
	classes = map[claudepool.RouteKind]score{}
	for _, a := range answers {
		s := classes[a.Expect]
		s.add(a)
		classes[a.Expect] = s
		all.add(a)
	}
	return classes, all
}

// report prints every answer, the scores and the cost.
func report(w io.Writer, answers []answer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\texpected\troute\tparts\trequest")
	var cost claudepool.Microdollars
	for _, a := range answers {
		mark := "ok"
		switch {
		case a.route.Fallback != "":
			mark = "FALLBACK"
		case !a.right(a.route.Kind):
			mark = "WRONG"
		case a.route.Kind != a.Expect:
			mark = "accepted"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", mark, a.Expect, a.route.Kind, max(len(a.route.Prompts), len(a.route.Steps)), clip(a.Request))
		if why := a.route.Fallback + a.route.Reason; mark != "ok" && why != "" {
			fmt.Fprintf(t, "\t\t\t\t  because: %s\n", clip(why))
		}
		cost += a.route.Cost
	}
	fmt.Fprintln(t, "\nclass\tasked\tright\tas expected\tfallbacks")
	classes, all := scores(answers)
	for _, kind := range claudepool.RouteKinds() {
		fmt.Fprintf(t, "%s\t%s\n", kind, classes[kind])
	}
	fmt.Fprintf(t, "all\t%s\n", all)
	fmt.Fprintf(t, "\ncost %v, %v per request\n", cost, cost/claudepool.Microdollars(max(len(answers), 1)))
	return t.Flush()
}

// clip keeps a line short.
func clip(s string) string {
	const most = 90
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most]) + "…"
}
