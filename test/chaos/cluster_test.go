package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/dreamood/dreamood/internal/runs"
)

// cluster is three NATS servers. Everything between them, and between them and the clients, goes through proxies, so
// that it can be cut.
type cluster struct {
	*world
	nodes   [3]*process
	config  [3]string
	routes  map[[2]int]*toxiproxy.Proxy // from, to
	clients [3]*toxiproxy.Proxy
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	cfg := quick
	cfg.Replicas = 3
	cfg.AckWait, cfg.Heartbeat, cfg.CommitWait = 4*time.Second, time.Second, 30*time.Second
	c := &cluster{world: bareWorld(t, cfg), routes: map[[2]int]*toxiproxy.Proxy{}}
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := func(name, upstream string) *toxiproxy.Proxy {
		p := toxiproxy.NewProxy(api, name, "127.0.0.1:0", upstream)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return p
	}
	var listen, route [3]string
	var urls []string
	for i := range c.nodes {
		listen[i], route[i] = freeAddress(t), freeAddress(t)
		c.clients[i] = proxy(fmt.Sprintf("client-%d", i), listen[i])
		urls = append(urls, "nats://"+c.clients[i].Listen)
	}
	c.part.URL = strings.Join(urls, ",")
	for i := range c.nodes {
		var others []string
		for j := range c.nodes {
			if i != j {
				c.routes[[2]int{i, j}] = proxy(fmt.Sprintf("route-%d-%d", i, j), route[j])
				others = append(others, fmt.Sprintf("%q", "nats://"+c.routes[[2]int{i, j}].Listen))
			}
		}
		c.config[i] = filepath.Join(c.dir, fmt.Sprintf("node-%d.conf", i))
		// What it advertises leads nowhere: there is no way round the proxies.
		text := fmt.Sprintf("listen: %q\nserver_name: node-%d\njetstream { store_dir: %q, sync_interval: always }\n"+
			"cluster { name: chaos, listen: %q, advertise: \"127.0.0.1:1\", no_advertise: true, pool_size: -1, routes: [%s] }\n",
			listen[i], i, filepath.Join(c.dir, fmt.Sprintf("nats-%d", i)), route[i], strings.Join(others, ", "))
		if err := os.WriteFile(c.config[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.startNode(i)
	}
	c.nats = c.nodes[0] // whose log is shown when nobody answers
	c.eventually("the cluster has a leader", func(ctx context.Context) error {
		conn, err := nats.Connect(c.part.URL)
		if err != nil {
			return err
		}
		defer conn.Close()
		js, err := conn.JetStream()
		if err != nil {
			return err
		}
		_, err = js.AddStream(&nats.StreamConfig{Name: "ready", Replicas: 3})
		if err != nil {
			return err
		}
		return js.DeleteStream("ready")
	})
	c.look()
	c.audit()
	return c
}

func (c *cluster) startNode(i int) {
	c.t.Helper()
	c.nodes[i] = launch(c.t, c.dir, "nats", part{}, func(*process, string) {}, "-c", c.config[i])
}

// cut stops proxies, and returns what starts them again.
func (c *cluster) cut(proxies ...*toxiproxy.Proxy) (mend func()) {
	for _, p := range proxies {
		p.Stop()
	}
	return func() {
		c.t.Helper()
		for _, p := range proxies {
			c.eventually("the proxy listens again", func(context.Context) error { return p.Start() })
		}
	}
}

// isolate cuts a node from the others; its clients stay.
func (c *cluster) isolate(i int) []*toxiproxy.Proxy {
	var cut []*toxiproxy.Proxy
	for ends, p := range c.routes {
		if ends[0] == i || ends[1] == i {
			cut = append(cut, p)
		}
	}
	return cut
}

// leader is the node that leads the bucket of the runs.
func (c *cluster) leader() int {
	c.t.Helper()
	leader := -1
	c.eventually("the bucket has a leader", func(ctx context.Context) error {
		stream, err := c.bus.JetStream().Stream(ctx, "KV_"+c.part.Runs.Name+"-runs")
		if err != nil {
			return err
		}
		if info := stream.CachedInfo(); info.Cluster != nil && info.Cluster.Leader != "" {
			_, err = fmt.Sscanf(info.Cluster.Leader, "node-%d", &leader)
			return err
		}
		return errors.New("none")
	})
	return leader
}

// TestCluster loses a node of three, cuts the leader off from the others, and cuts all clients off, while runs go on.
func TestCluster(t *testing.T) {
	if !full() {
		t.Skip("half a minute; make chaos")
	}
	t.Parallel()
	disturbances := map[string]func(*cluster){
		"the leader is killed": func(c *cluster) {
			i := c.leader()
			c.nodes[i].kill()
			time.Sleep(3 * time.Second)
			c.startNode(i)
		},
		"the leader is cut off": func(c *cluster) {
			mend := c.cut(c.isolate(c.leader())...)
			time.Sleep(8 * time.Second)
			mend()
		},
		"a follower is cut off": func(c *cluster) {
			mend := c.cut(c.isolate((c.leader() + 1) % 3)...)
			time.Sleep(8 * time.Second)
			mend()
		},
		"all clients are cut off": func(c *cluster) {
			mend := c.cut(c.clients[:]...)
			time.Sleep(3 * time.Second)
			mend()
		},
	}
	for name, disturb := range disturbances {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.part.Script = append(c.part.Script[:len(c.part.Script):len(c.part.Script)], play{Name: "long", Shards: 4, Fate: "long", End: runs.Succeeded})
			c.start("worker")
			c.start("worker")
			client := c.start("client")
			c.awaitLine("working")
			disturb(c)
			c.finish(client)
			c.passes(c.part.Script)
		})
	}
}
