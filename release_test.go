package election_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/storagetest"
)

// A release is written on the record as it was last read or written, if that is no
// older than half a round may last; else it is read again.
func TestReleaseNeedsNoNewRead(t *testing.T) {
	for name, tc := range map[string]struct {
		age  time.Duration
		want []string
	}{
		"Fresh": {900 * time.Millisecond, []string{"release"}},
		"Old":   {1100 * time.Millisecond, []string{"get", "release"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t)
				calls := make(chan string, 100)
				a := p.join("a", &hooked{
					Storage: storagetest.NewMemory(),
					get: func(ctx context.Context, next func(context.Context) (*election.Record, error)) (*election.Record, error) {
						calls <- "get"
						return next(ctx)
					},
					update: func(ctx context.Context, r *election.Record, changed bool, next func(context.Context) error) error {
						kind := "renewal"
						if changed && r.LeaderID == "" {
							kind = "release"
						}
						calls <- kind
						return next(ctx)
					},
				})
				waitFor(t, time.Minute, "a leads", a.IsLeader)
				for drained := false; !drained; { // the renewal whose age counts
					drained = <-calls == "renewal" && len(p.log.all()) == 1 && a.Status().RenewedAt.Equal(time.Now())
				}
				<-time.After(tc.age) // virtual time
				require.Empty(t, calls)
				require.NoError(t, a.ResignLeader(t.Context(), time.Hour))
				for _, want := range tc.want {
					require.Equal(t, want, <-calls)
				}
			})
		})
	}
}
