package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dbtest"
)

// postgres runs a primary and its synchronous standby until ctx ends.
func postgres(ctx context.Context) error {
	start := time.Now()
	pair, err := dbtest.StartPair()
	if err != nil {
		return err
	}
	defer func() { _ = pair.Close() }()
	fmt.Printf("a primary and its synchronous standby after %.1f s; Ctrl-C stops them\n", time.Since(start).Seconds())
	fmt.Println("for members:", pair.DSN())
	fmt.Println("primary:    ", pair.Primary.DSN())
	fmt.Println("standby:    ", pair.Standby.DSN())
	<-ctx.Done()
	return nil
}
