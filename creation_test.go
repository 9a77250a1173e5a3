package election_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
)

func TestTrap11FiftyCreators(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, open func() election.Storage) {
		p := newParty(t)
		for i := range 50 {
			p.join(fmt.Sprintf("m%02d", i), open())
		}
		<-time.After(5 * time.Second)
		require.Len(t, p.leaders(), 1)
		require.Len(t, p.leader().GetMembers(), 50)
		require.Len(t, p.log.all(), 1)
	})
}
