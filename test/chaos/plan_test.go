//go:build linux

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/dbtest"
)

func TestPlanFollowsFromItsSeed(t *testing.T) {
	draw := func(seed uint64) (kinds []kind, holds []float64) {
		p := newPlan(seed, &venue{server: &dbtest.OwnServer{}})
		for range 20 {
			for _, f := range p.round() {
				kinds, holds = append(kinds, f.kind), append(holds, f.hold.Seconds())
			}
		}
		return kinds, holds
	}
	kinds, holds := draw(1)
	againKinds, againHolds := draw(1)
	require.Equal(t, kinds, againKinds)
	require.Equal(t, holds, againHolds)
	others, _ := draw(2)
	require.NotEqual(t, kinds, others)
}

func TestPlanDrawsEveryKindBeforeAnyAgain(t *testing.T) {
	for name, v := range map[string]*venue{
		"server": {server: &dbtest.OwnServer{}}, "file": {file: &file{}}, "file on a volume": {file: &file{volume: &volume{}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(1, v)
			drawn := map[kind]int{}
			for range 5 * len(p.kinds) {
				f := p.draw()
				drawn[f.kind]++
				require.GreaterOrEqual(t, f.hold, f.shortest)
				require.LessOrEqual(t, f.hold, f.longest)
			}
			require.Len(t, drawn, len(p.kinds))
			for k, n := range drawn {
				require.Equal(t, 5, n, k)
				require.True(t, natureOf(k).on(v), k)
			}
		})
	}
}

func TestOneOutageAtMostStrikesAtATime(t *testing.T) {
	p := newPlan(1, &venue{server: &dbtest.OwnServer{}})
	pairs := 0
	for range 500 {
		faults := p.round()
		require.LessOrEqual(t, len(faults), 2)
		require.False(t, len(faults) == 2 && faults[0].outage && faults[1].outage)
		pairs += len(faults) - 1
	}
	require.Greater(t, pairs, 50)
}
