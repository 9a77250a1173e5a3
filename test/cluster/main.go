// Command cluster starts a database cluster from nothing, on free ports of the
// loopback device, prints how to connect to it, and stops it on Ctrl-C:
//
//	go -C test run ./cluster galera
//	go -C test run ./cluster postgres
//
// Nothing is left behind, also when it is killed. Its tests race guarded
// transactions against changes of leader, and of the primary, on clusters of the same kind.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	clusters := map[string]func(context.Context) error{"galera": galera, "postgres": postgres}
	run, ok := clusters[os.Args[len(os.Args)-1]]
	if len(os.Args) != 2 || !ok {
		fmt.Fprintln(os.Stderr, "usage: cluster galera|postgres")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}
