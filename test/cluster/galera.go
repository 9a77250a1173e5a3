package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sqlelect/election/internal/dbtest"
)

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
