package balance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPlanSaysHowManyWouldGoOrWhyNone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		view  View
		sends int
		keeps string
	}{
		"over the mean":           {view: view(2000, 1000, 1000), sends: 600},
		"within 10 %, beyond 5 %": {view: view(1100, 1000, 1000), sends: 15},
		"no more than its share":  {view: view(1000, 1000, 1000), keeps: "no more than its share"},
		"few":                     {view: view(100, 10, 10), keeps: "BALANCE_MINIMUM"},
		"alone":                   {view: view(5000), keeps: "no other edge"},
		"an edge drains":          {view: view(2000, 1000).with(func(v *View) { v.Edges[1].Draining = true }), keeps: "drains"},
		"behind":                  {view: view(2000, 1000).with(func(v *View) { v.Current = false }), keeps: "behind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New(config)
			for range 2 { // a plan changes nothing
				p := b.Plan(tc.view)
				require.Equal(t, tc.sends, p.Excess)
				require.Contains(t, p.Keeps, tc.keeps)
				require.Equal(t, tc.sends > 0, p.Keeps == "")
				require.Equal(t, 20, p.Rate)
			}
			require.False(t, b.Urgent())
			require.Zero(t, b.Tick(tc.view, start).Tell)
		})
	}
}

func TestAnOperatorNeedNotWaitForBalance(t *testing.T) {
	t.Parallel()
	cfg := config
	cfg.Rate = 0 // switched off
	b := New(cfg)
	v := view(2000, 1000, 1000)
	require.Zero(t, b.Tick(v, start).Tell)
	require.Equal(t, 600, b.Begin(v).Excess)
	d := b.Tick(v, start.Add(time.Second))
	require.Equal(t, urgentRate, d.Tell)
	b.Told(d.Tell)
	require.True(t, b.Urgent())
	require.Equal(t, Balanced, b.Tick(view(1390, 1305, 1305), start.Add(2*time.Second)).Step)
	require.False(t, b.Urgent())

	// It ends with the edges that it was begun for,
	b.Begin(v)
	require.Equal(t, Stopped, b.Tick(view(2000, 1000), start.Add(3*time.Second)).Step)
	require.False(t, b.Urgent())
	// and where it does not help.
	b.Tick(v, start.Add(4*time.Second))
	b.Begin(v)
	for i := range 100 {
		b.Told(b.Tick(v, start.Add(time.Duration(5+i)*time.Second)).Tell)
	}
	require.False(t, b.Urgent())
}
