package election

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election/internal/clock"
)

// at is a reading of clocks that agree.
func at(d time.Duration) clock.Instant {
	return clock.Instant{Mono: d, Boot: time.Hour + d, Wall: 1000*time.Hour + d}
}

func TestTrustEndsByTheFasterClock(t *testing.T) {
	held := trust{at(0), 8 * time.Second}
	require.Equal(t, 3*time.Second, held.left(at(5*time.Second)))
	require.LessOrEqual(t, held.left(at(8*time.Second)), time.Duration(0))

	slept := at(time.Second)
	slept.Boot += time.Minute // the monotonic clock stood still meanwhile
	require.Negative(t, held.left(slept))

	noBoot := clock.Instant{Mono: 5 * time.Second}
	require.Equal(t, 3*time.Second, held.left(noBoot), "no boot clock on this system")
}

func TestTrustBelievesByMonotonicAndWallClock(t *testing.T) {
	held := trust{at(0), 8 * time.Second}
	require.True(t, held.believes(at(8*time.Second-1)))
	require.False(t, held.believes(at(8*time.Second)))

	resumed := at(time.Second)
	resumed.Wall += time.Hour
	require.False(t, held.believes(resumed), "the wall clock is 1 h ahead of the monotonic one: the machine slept")

	back := at(8 * time.Second)
	back.Wall -= time.Hour
	require.False(t, held.believes(back), "a wall clock set back lengthens nothing")

	require.False(t, trust{}.believes(at(0)), "the zero trust believes nothing")
}
