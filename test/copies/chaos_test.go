package copies

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/bench/cluster"
)

// chaos does harm to the processes of a cluster, and knows whom it left alone. The rest of the test only asks it.
type chaos struct {
	system *cluster.Cluster
	random *rand.Rand

	mu struct {
		sync.Mutex
		datanodes []harm
		namenode  harm
		story     []string
		failed    error // a process could not be started or signalled
	}
}

// harm is what was done to one process.
type harm struct {
	now   bool      // it is under way
	ended time.Time // the last one; zero: none yet, and the cluster was ready before
}

func newChaos(system *cluster.Cluster, seed uint64) *chaos {
	c := &chaos{system: system, random: rand.New(rand.NewPCG(seed, 1))}
	c.mu.datanodes = make([]harm, len(system.Datanodes))
	return c
}

// healthy lists the datanodes that could have taken a copy during all of a call that began at a time.
func (c *chaos) healthy(begun time.Time) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := begun.Add(-healthyAfter)
	var nodes []int
	if c.mu.namenode.now || c.mu.namenode.ended.After(since) {
		return nil
	}
	for i, done := range c.mu.datanodes {
		if !done.now && done.ended.Before(since) {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// story is everything that was done, line by line.
func (c *chaos) story() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.mu.story...)
}

func (c *chaos) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.failed
}

func (c *chaos) tell(format string, arguments ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.story = append(c.mu.story, clockText(time.Now())+" "+fmt.Sprintf(format, arguments...))
}

// during marks a process as harmed while work runs.
func (c *chaos) during(done *harm, work func() error) {
	c.mu.Lock()
	done.now = true
	c.mu.Unlock()
	err := work()
	c.mu.Lock()
	defer c.mu.Unlock()
	done.now, done.ended = false, time.Now()
	c.mu.failed = errors.Join(c.mu.failed, err)
}

// takeAway marks a datanode as harmed until the next harm to it ends.
func (c *chaos) takeAway(node int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.datanodes[node].now = true
}

// run does harm until the context ends. Then everything runs again.
func (c *chaos) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.episode(ctx)
	}
}

// episode harms few processes for a while, so that the others count as healthy meanwhile.
func (c *chaos) episode(ctx context.Context) {
	length := time.Duration(20+c.random.IntN(25)) * time.Second
	kind := c.random.IntN(4)
	first := c.random.IntN(len(c.system.Datanodes))
	second := (first + 1 + c.random.IntN(len(c.system.Datanodes)-1)) % len(c.system.Datanodes)
	seeds := []uint64{c.random.Uint64(), c.random.Uint64(), c.random.Uint64()}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var group sync.WaitGroup
	actor := func(index int, work func(ctx context.Context, random *rand.Rand)) {
		random := rand.New(rand.NewPCG(seeds[index], 2))
		group.Go(func() {
			for ctx.Err() == nil {
				work(ctx, random)
			}
		})
	}
	datanode := func(index, node int) {
		actor(index, func(ctx context.Context, random *rand.Rand) {
			if pause(ctx, between(random, 200*time.Millisecond, 5*time.Second)) {
				c.harmDatanode(node, random)
			}
		})
	}
	switch kind {
	case 0:
		c.tell("episode of %s: all datanodes restart, one after the other", length)
		actor(0, c.rolling)
	case 1:
		c.tell("episode of %s: datanodes %d and %d", length, first, second)
		datanode(0, first)
		datanode(1, second)
	case 2:
		c.tell("episode of %s: datanode %d", length, first)
		datanode(0, first)
	case 3:
		c.tell("episode of %s: datanodes %d and %d, and the namenode", length, first, second)
		datanode(0, first)
		datanode(1, second)
		actor(2, func(ctx context.Context, random *rand.Rand) {
			if pause(ctx, between(random, time.Second, 9*time.Second)) {
				c.harmNamenode(random)
			}
		})
	}
	group.Wait()
}

// between is a random time.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// away is how long a process is gone: often shorter than it takes to notice.
func away(random *rand.Rand, most time.Duration) time.Duration {
	if random.IntN(3) == 0 {
		return time.Duration(random.Int64N(int64(time.Second)))
	}
	return time.Duration(random.Int64N(int64(most)))
}

// rolling restarts every datanode once.
func (c *chaos) rolling(ctx context.Context, random *rand.Rand) {
	for node := range c.system.Datanodes {
		if !pause(ctx, between(random, 100*time.Millisecond, 4*time.Second)) {
			return
		}
		c.restart(node, away(random, time.Second))
	}
}

// The harm is never cut short: the context of an episode only keeps it from beginning.

func (c *chaos) harmDatanode(node int, random *rand.Rand) {
	switch random.IntN(3) {
	case 0:
		c.kill(node, away(random, 7*time.Second))
	case 1:
		c.stand(node, between(random, 100*time.Millisecond, 12*time.Second))
	case 2:
		c.restart(node, away(random, time.Second))
	}
}

// kill ends a datanode with SIGKILL and starts it again.
func (c *chaos) kill(node int, gone time.Duration) {
	process := c.system.Datanodes[node]
	c.during(&c.mu.datanodes[node], func() error {
		c.tell("datanode %d is killed, for %s", node, gone)
		err := process.Kill()
		pause(context.Background(), gone)
		c.tell("datanode %d starts", node)
		return errors.Join(err, process.Start())
	})
}

// stand pauses a datanode.
func (c *chaos) stand(node int, length time.Duration) {
	process := c.system.Datanodes[node]
	c.during(&c.mu.datanodes[node], func() error {
		c.tell("datanode %d is paused, for %s", node, length)
		err := process.Pause()
		pause(context.Background(), length)
		c.tell("datanode %d goes on", node)
		return errors.Join(err, process.Resume())
	})
}

// restart ends a datanode with SIGTERM and starts it again.
func (c *chaos) restart(node int, gone time.Duration) {
	process := c.system.Datanodes[node]
	c.during(&c.mu.datanodes[node], func() error {
		c.tell("datanode %d is stopped, for %s", node, gone)
		err := process.Stop()
		if err != nil && strings.HasSuffix(err.Error(), "exit status 130") {
			err = nil // it was told to stop while it started
		}
		pause(context.Background(), gone)
		c.tell("datanode %d starts", node)
		return errors.Join(err, process.Start())
	})
}

func (c *chaos) harmNamenode(random *rand.Rand) {
	if random.IntN(4) == 0 {
		c.standNamenode(between(random, 100*time.Millisecond, 9*time.Second))
		return
	}
	c.killNamenode(away(random, 9*time.Second))
}

// killNamenode ends the namenode with SIGKILL and starts it again.
func (c *chaos) killNamenode(gone time.Duration) {
	c.during(&c.mu.namenode, func() error {
		c.tell("namenode is killed, for %s", gone)
		err := c.system.Namenode.Kill()
		pause(context.Background(), gone)
		c.tell("namenode starts")
		return errors.Join(err, c.system.Namenode.Start())
	})
}

// standNamenode pauses the namenode.
func (c *chaos) standNamenode(length time.Duration) {
	c.during(&c.mu.namenode, func() error {
		c.tell("namenode is paused, for %s", length)
		err := c.system.Namenode.Pause()
		pause(context.Background(), length)
		c.tell("namenode goes on")
		return errors.Join(err, c.system.Namenode.Resume())
	})
}
