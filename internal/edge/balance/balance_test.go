package balance

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var config = Config{Rate: 20, Minimum: 100, After: 5 * time.Minute}

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// view shows edges with so many connections to the first of them.
func view(connections ...int) View {
	v := View{Self: "edge-0", Current: true}
	for i, n := range connections {
		v.Edges = append(v.Edges, Edge{Name: fmt.Sprintf("edge-%d", i), Connections: n})
	}
	return v
}

func (v View) with(change func(*View)) View {
	change(&v)
	return v
}

func TestWhatAnEdgeMayTell(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  func(*Config)
		view View
		want int
	}{
		"over the mean":                   {view: view(2000, 1000, 1000), want: 20},
		"no more than the excess":         {view: view(1300, 1000, 1000), want: 145},
		"those told have left already":    {view: view(1300, 1000, 1000).with(func(v *View) { v.Leaving = 100 }), want: 0},
		"within 10 %":                     {view: view(1100, 1000, 1000), want: 0},
		"below the mean":                  {view: view(500, 1000, 1000), want: 0},
		"alone":                           {view: view(5000), want: 0},
		"few":                             {view: view(100, 10, 10), want: 0},
		"a few more than the minimum":     {view: view(105, 10, 10), want: 5},
		"the others are empty":            {view: view(3000, 0, 0), want: 20},
		"switched off":                    {cfg: func(c *Config) { c.Rate = 0 }, view: view(2000, 1000, 1000), want: 0},
		"the directory is behind":         {view: view(2000, 1000, 1000).with(func(v *View) { v.Current = false }), want: 0},
		"another edge drains":             {view: view(2000, 1000, 1000).with(func(v *View) { v.Edges[2].Draining = true }), want: 0},
		"this edge drains":                {view: view(2000, 1000, 1000).with(func(v *View) { v.Edges[0].Draining = true }), want: 0},
		"nobody is connected to any edge": {view: view(0, 0, 0), want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config
			cfg.Rate = 200
			if tc.want == 20 {
				cfg.Rate = 20
			}
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			b := New(cfg)
			require.Zero(t, b.Tick(tc.view, start).Tell)
			require.Zero(t, b.Tick(tc.view, start.Add(cfg.After-time.Second)).Tell, "not before BALANCE_AFTER")
			require.Equal(t, tc.want, b.Tick(tc.view, start.Add(cfg.After)).Tell)
		})
	}
}

func TestAnEdgeThatHasBegunGoesOnTo5Percent(t *testing.T) {
	t.Parallel()
	b := New(config)
	b.Tick(view(1200, 1000, 1000, 800), start)
	now := start.Add(config.After)
	require.Equal(t, Decision{Tell: 20, Step: Began, Own: 1200, Mean: 1000}, b.Tick(view(1200, 1000, 1000, 800), now))
	require.Equal(t, 10, b.Tick(view(1060, 1000, 1000, 940), now).Tell)
	require.Equal(t, Balanced, b.Tick(view(1050, 1000, 1000, 950), now).Step)
	require.Equal(t, Decision{Own: 1100, Mean: 1000}, b.Tick(view(1100, 1000, 1000, 900), now.Add(time.Hour)), "and then rests up to 10 %")
}

// Whoever comes, goes or drains changes what the mean says.
func TestAnEdgeWaitsUntilTheEdgesAreTheSameForAWhile(t *testing.T) {
	t.Parallel()
	changes := map[string]View{
		"one has joined": view(2000, 1000, 1000, 0),
		"one has gone":   view(2000, 1000),
		"one drains":     view(2000, 1000, 1000).with(func(v *View) { v.Edges[1].Draining = true }),
		"one was started anew": view(2000, 1000, 1000).with(func(v *View) {
			v.Edges[1].Name = "edge-1-again"
		}),
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New(config)
			before := view(2000, 1000, 1000)
			b.Tick(before, start)
			now := start.Add(config.After)
			require.Equal(t, Began, b.Tick(before, now).Step)
			require.Equal(t, Stopped, b.Tick(change, now).Step)
			if change.draining() {
				change = before
				b.Tick(change, now)
			}
			require.Zero(t, b.Tick(change, now.Add(config.After-time.Second)).Tell)
			require.Equal(t, Began, b.Tick(change, now.Add(config.After)).Step)
		})
	}
}

func TestAnEdgeThatAchievesNothingGivesUpForLongerAndLonger(t *testing.T) {
	t.Parallel()
	b := New(config)
	stuck := view(1200, 900, 900) // mean 1000
	now := start
	b.Tick(stuck, now)
	now = now.Add(config.After)
	campaign := func() (told int) {
		for range 1000 {
			d := b.Tick(stuck, now)
			if d.Step == GaveUp {
				return told
			}
			b.Told(d.Tell)
			told += d.Tell
			now = now.Add(time.Second)
		}
		require.Fail(t, "it never gives up")
		return told
	}
	for _, rest := range []time.Duration{1, 2, 4, 8, 16, 24, 24} {
		require.Equal(t, effort*200, campaign())
		require.Zero(t, b.Tick(stuck, now.Add(rest*time.Hour-time.Second)).Tell)
		now = now.Add(rest * time.Hour)
	}
	campaign()
	b.Tick(view(1200, 900, 900, 0), now)
	now = now.Add(config.After)
	require.Equal(t, Began, b.Tick(view(1200, 900, 900, 0), now).Step, "with other edges it is worth trying anew")
}
