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
	process := &Process{Name: "sleeper", Log: filepath.Join(t.TempDir(), "log"), program: sleep,
		args: []string{"600"}, launcher: l}
	require.Error(t, process.Pause(), "nothing runs yet")
	require.NoError(t, process.Start())
	require.ErrorContains(t, process.Start(), "runs already")
	require.NoError(t, process.Pause())
	require.NoError(t, process.Resume())
	first := process.Pid()
	require.NoError(t, process.Kill())
	require.Zero(t, process.Pid())
	require.NoError(t, process.Start())
	require.NotEqual(t, first, process.Pid())
	ended, how := process.Ended()
	require.Error(t, process.Stop(), "sleep dies of SIGTERM, which is not exit code 0")
	<-ended
	require.Error(t, how())
}
