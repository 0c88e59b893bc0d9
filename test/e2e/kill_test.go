package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// TestKill ends daemons with SIGKILL at random moments of a store and append
// load, starts them again and checks that every acknowledged file and every
// synced byte is there, that no half file is visible, and that what was being
// written can be recovered or is gone. The tree lives through all rounds.
//
// The first rounds kill each kind of daemon once; later ones take what the seed
// says. `make kill` runs 50.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := setting(t, "E2E_ROUNDS", 4)
	seed := setting(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("repeat with E2E_ROUNDS=%d E2E_SEED=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	// Checkpoints all the time: a kill meets every step of one sooner or later.
	system := start(t, cluster.Options{Settings: map[string]any{"namenode.checkpoint_records": 50,
		"namenode.trash_expiry": "1h"}})
	work := newLoad(system.Address(), seed, 3, 2)
	for round := range rounds {
		victims := victims(system, random, int(round))
		names := ""
		for _, p := range victims {
			names += " " + p.Name
		}
		// The round's name says what to look for when it fails.
		ok := t.Run(fmt.Sprintf("round %d kills%s", round+1, names), func(t *testing.T) {
			killRound(t, system, work, random, victims)
		})
		if !ok {
			t.Fatalf("repeat with E2E_ROUNDS=%d E2E_SEED=%d", rounds, seed)
		}
	}
	stores, syncs := work.acknowledged()
	t.Logf("%d rounds, %d acknowledged stores and removals, %d acknowledged syncs and closes", rounds, stores, syncs)
}

// victims chooses whom a round kills.
func victims(system *cluster.Cluster, random *rand.Rand, round int) []*cluster.Process {
	all := system.Processes()
	datanode := system.Datanodes[random.IntN(len(system.Datanodes))]
	choices := [][]*cluster.Process{all, {system.Namenode}, {datanode}, {system.LogServer},
		{system.LogServer, system.Namenode}, {system.Namenode, datanode}, system.Datanodes}
	if round < len(choices) {
		return choices[round]
	}
	return choices[random.IntN(len(choices))]
}

func killRound(t *testing.T, system *cluster.Cluster, work *load, random *rand.Rand, victims []*cluster.Process) {
	ctx := patient(t, 90*time.Second)
	loadContext, endLoad := context.WithCancel(ctx)
	defer endLoad()
	wait := work.begin(loadContext, t)
	progress(t, ctx, work, "before the kill")

	// The randomness is the point of this wait: nothing depends on its length.
	pause(ctx, time.Duration(random.IntN(500))*time.Millisecond)
	require.NoError(t, system.Kill(victims...))
	pause(ctx, time.Duration(random.IntN(700))*time.Millisecond)
	if random.IntN(3) == 0 { // kill them again, in the middle of their recovery
		for _, p := range victims {
			require.NoError(t, p.Start())
		}
		pause(ctx, time.Duration(random.IntN(300))*time.Millisecond)
		require.NoError(t, system.Kill(victims...))
	}
	require.NoError(t, system.Start(ctx))
	progress(t, ctx, work, "after the restart")
	endLoad()
	wait()
	work.verify(ctx, t, system.Client())
}

// progress waits until stores and syncs have been acknowledged from now on.
func progress(t *testing.T, ctx context.Context, l *load, when string) {
	t.Helper()
	stores, syncs := l.acknowledged()
	err := cluster.Poll(ctx, func() error {
		moreStores, moreSyncs := l.acknowledged()
		if moreStores < stores+4 || moreSyncs < syncs+4 {
			return fmt.Errorf("%d stores and %d syncs acknowledged %s", moreStores-stores, moreSyncs-syncs, when)
		}
		return nil
	})
	require.NoError(t, err)
}

// pause lets a random time pass.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// readAll reads a file of the cluster to its visible end.
func readAll(ctx context.Context, user *client.Client, name string) ([]byte, error) {
	r, err := user.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	return b.Bytes(), err
}

// pollUntilClosed ends whatever lease there is on a file.
func pollUntilClosed(ctx context.Context, user *client.Client, name string) error {
	return cluster.Poll(ctx, func() error {
		closed, err := user.RecoverLease(ctx, name)
		if err == nil && !closed {
			err = fmt.Errorf("%s is still being recovered", name)
		}
		return err
	})
}
