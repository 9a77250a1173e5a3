// Command cluster starts a database cluster from nothing, on free ports of the
// loopback device, prints how to connect to it, and stops it on Ctrl-C:
//
//	go -C test run ./cluster galera
//
// Nothing is left behind, also when it is killed. Its tests race guarded
// transactions against changes of leader on clusters of the same kind.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sqlelect/election/internal/dbtest"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] != "galera" {
		fmt.Fprintln(os.Stderr, "usage: cluster galera")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := galera(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// galera runs a cluster until ctx ends.
func galera(ctx context.Context) error {
	const schema = "service"
	start := time.Now()
	cluster, err := dbtest.StartGalera()
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Close() }()
	if err := cluster.CreateSchema(ctx, schema); err != nil {
		return err
	}
	fmt.Printf("%d nodes after %.1f s; Ctrl-C stops them\n", len(cluster.Nodes), time.Since(start).Seconds())
	for _, node := range cluster.Nodes {
		fmt.Println(node.DSN(schema))
	}
	<-ctx.Done()
	return nil
}
