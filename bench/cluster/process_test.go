package cluster

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAProcessStartsPausesEndsAndStartsAgain(t *testing.T) {
	sleep := "/bin/sleep"
	require.FileExists(t, sleep)
	l := newLauncher()
	defer l.close()
	p := &Process{Name: "sleeper", Log: filepath.Join(t.TempDir(), "log"), program: sleep, args: []string{"600"}, launcher: l}
	require.Error(t, p.Pause(), "nothing runs yet")
	require.NoError(t, p.Start())
	require.ErrorContains(t, p.Start(), "runs already")
	require.NoError(t, p.Pause())
	require.NoError(t, p.Resume())
	first := p.Pid()
	require.NoError(t, p.Kill())
	require.Zero(t, p.Pid())
	require.NoError(t, p.Start())
	require.NotEqual(t, first, p.Pid())
	ended, how := p.Ended()
	require.Error(t, p.Stop(), "sleep dies of SIGTERM, which is not exit code 0")
	<-ended
	require.Error(t, how())
}
