//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is one member's way to the database.
type network struct{ proxy *toxiproxy.Proxy }

// newNetwork starts a proxy to the server at address. Some toxics log whatever
// logger they are given.
func newNetwork(name, address string) (*network, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{toxiproxy.NewProxy(server, name, "127.0.0.1:0", address)}
	if err := n.proxy.Start(); err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	far := bothWays("latency", map[string]int64{"latency": distance.Milliseconds()})
	for i := range far {
		far[i].Name = "distance_" + far[i].Stream
	}
	if _, err := n.poison(far...); err != nil {
		return nil, err
	}
	return n, nil
}

// distance is how long a packet takes when nothing is wrong: as between two places
// of one region. A COMMIT is on its way for long enough to be hit by a fault.
const distance = 2 * time.Millisecond

func (n *network) close() { n.proxy.Stop() }

// port is where the proxy listens, also after it was closed and opened again.
func (n *network) port() int {
	_, port, _ := net.SplitHostPort(n.proxy.Listen)
	number, _ := strconv.Atoi(port)
	return number
}

// A toxic is what toxiproxy does to one direction of each connection.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Attributes map[string]int64 `json:"attributes"`
}

// Directions, as seen from the member.
const (
	upstream   = "upstream"
	downstream = "downstream"
)

func bothWays(kind string, attributes map[string]int64) []toxic {
	return []toxic{oneWay(upstream, kind, attributes), oneWay(downstream, kind, attributes)}
}

func oneWay(stream, kind string, attributes map[string]int64) toxic {
	return toxic{Name: kind + "_" + stream, Type: kind, Stream: stream, Attributes: attributes}
}

// poison adds toxics; the function it returns removes them.
func (n *network) poison(toxics ...toxic) (heal func() error, err error) {
	for _, t := range toxics {
		text, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if _, err := n.proxy.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("add toxic %s: %w", t.Name, err)
		}
	}
	return func() error {
		for _, t := range toxics {
			if err := n.proxy.Toxics.RemoveToxic(context.Background(), t.Name); err != nil {
				return fmt.Errorf("remove toxic %s: %w", t.Name, err)
			}
		}
		return nil
	}, nil
}

// refuse closes all connections and accepts none.
func (n *network) refuse() (heal func() error) {
	n.proxy.Stop()
	return n.proxy.Start
}
