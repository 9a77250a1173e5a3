package election_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sqlelect/election"
)

// archive stands for a system outside of the database. It remembers the highest term that it has seen, and
// refuses whoever comes with a lower one.
type archive struct {
	mu   sync.Mutex
	term uint64
}

func (a *archive) write(term uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if term < a.term {
		return errors.New("this leader was replaced")
	}
	a.term = term
	return nil
}

// The term is a fencing token: send it along with each request to a system that the guard does not reach.
func ExampleElector_term() {
	storage, _ := election.NewInMemorySQLStorage("example-token", "")
	defer storage.Close()
	ctx, stop := context.WithCancel(context.Background())
	terms := make(chan uint64)
	elector, _ := election.NewElector(election.Config{
		ID: "replica-1", Storage: storage,
		LeaderCallback: func(ctx context.Context) error {
			reign, _ := election.LeadershipFromContext(ctx)
			terms <- reign.Term
			<-ctx.Done()
			return nil
		},
	})
	ended := make(chan error)
	go func() { ended <- elector.RunElection(ctx) }()

	var files archive
	first := <-terms
	_ = elector.ResignLeader(ctx, 0)
	second := <-terms // elected again, in a higher term
	fmt.Println("the later leader:", files.write(second))
	fmt.Println("a request of the earlier one:", files.write(first))
	_, leads := elector.Term()
	fmt.Println("leads:", leads)
	stop()
	<-ended
	// Output:
	// the later leader: <nil>
	// a request of the earlier one: this leader was replaced
	// leads: true
}
