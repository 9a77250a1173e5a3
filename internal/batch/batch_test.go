package batch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo answers each question with itself, and keeps the batches.
type echo struct {
	*Queue[string, string]
	batches [][]string
	took    time.Duration
	err     error
}

func newEcho() *echo {
	e := &echo{}
	e.Queue = New(func(_ context.Context, questions []string) ([]string, error) {
		e.batches = append(e.batches, questions)
		<-time.After(e.took) // virtual time
		return questions, e.err
	})
	return e
}

func TestCallsJoin(t *testing.T) {
	const wait = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		ctx := WithWait(t.Context(), wait)
		_, joined, err := e.Do(t.Context(), "in a hurry")
		require.NoError(t, err)
		require.False(t, joined)
		_, joined, err = e.Do(ctx, "nobody is there")
		require.NoError(t, err)
		require.False(t, joined)

		var asking sync.WaitGroup
		want := func(q string, at time.Duration) {
			asking.Go(func() {
				<-time.After(at)
				began := time.Now()
				answer, joined, err := e.Do(ctx, q)
				assert.NoError(t, err)
				assert.True(t, joined, q)
				assert.Equal(t, q, answer)
				assert.LessOrEqual(t, time.Since(began), wait)
			})
		}
		want("a", 50*time.Millisecond)
		want("b", 60*time.Millisecond)
		want("c", 149*time.Millisecond)
		want("late", 200*time.Millisecond)
		asking.Wait()
		require.Equal(t, [][]string{{"a", "b", "c"}, {"late"}}, e.batches)

		<-time.After(2 * wait)
		_, joined, _ = e.Do(ctx, "company has gone")
		require.False(t, joined)

		e.batches = nil
		for i := range MaxSize + 1 {
			want(fmt.Sprint(i), wait/2)
		}
		asking.Wait()
		require.Len(t, e.batches, 2)
		require.Len(t, e.batches[0], MaxSize, "a full batch does not wait")
	})
}

// Whoever began a batch may give up: the others are answered. What fails, fails for all.
func TestBatchOutlivesItsFirstCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		e.took = time.Second
		ctx := WithWait(t.Context(), 10*time.Millisecond)
		first, giveUp := context.WithTimeout(ctx, time.Minute)
		_, _, _ = e.Do(ctx, "company")
		var asking sync.WaitGroup
		asking.Go(func() {
			_, joined, err := e.Do(first, "first")
			assert.True(t, joined)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		asking.Go(func() {
			answer, joined, err := e.Do(ctx, "second")
			assert.NoError(t, err)
			assert.True(t, joined)
			assert.Equal(t, "second", answer)
		})
		synctest.Wait()
		giveUp()
		asking.Wait()
		require.Equal(t, [][]string{{"first", "second"}}, e.batches)

		e.err = errors.New("out of order")
		for range 2 {
			asking.Go(func() {
				_, joined, err := e.Do(ctx, "x")
				assert.True(t, !joined || errors.Is(err, e.err))
			})
		}
		asking.Wait()
	})
}

// Nobody waits for longer than its own wait, or a quarter of its time; and a batch
// has as much time as the one in it that has most.
func TestBatchOfUnequalCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho()
		patient := WithWait(t.Context(), 500*time.Millisecond)
		_, _, _ = e.Do(patient, "company")
		var asking sync.WaitGroup
		asking.Go(func() { _, _, _ = e.Do(patient, "patient") })
		synctest.Wait()
		_, joined, err := e.Do(WithWait(t.Context(), 5*time.Millisecond), "impatient")
		require.NoError(t, err)
		require.False(t, joined, "the batch is sent too late for it")
		asking.Wait()

		e = newEcho()
		short, cancel := context.WithTimeout(WithWait(t.Context(), time.Second), 100*time.Millisecond)
		defer cancel()
		_, _, _ = e.Do(short, "company")
		began := time.Now()
		_, joined, err = e.Do(short, "short")
		require.NoError(t, err)
		require.True(t, joined)
		require.LessOrEqual(t, time.Since(began), 25*time.Millisecond)

		e = newEcho()
		inTime := make(chan bool, 1)
		e.send = func(ctx context.Context, questions []string) ([]string, error) {
			deadline, _ := ctx.Deadline()
			inTime <- time.Until(deadline) > time.Second
			return questions, nil
		}
		short, cancel = context.WithTimeout(WithWait(t.Context(), 20*time.Millisecond), 100*time.Millisecond)
		defer cancel()
		long, cancel := context.WithTimeout(WithWait(t.Context(), 20*time.Millisecond), 2*time.Second)
		defer cancel()
		_, _, _ = e.Do(long, "company")
		asking.Go(func() { _, _, _ = e.Do(short, "short") })
		synctest.Wait()
		_, joined, err = e.Do(long, "long")
		require.NoError(t, err)
		require.True(t, joined)
		require.True(t, <-inTime)
		asking.Wait()
	})
}
