package idle_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/idle"
)

func TestTheNewestIsUsedFirstAndTheOldestExpires(t *testing.T) {
	var c idle.Connections[int]
	_, ok := c.Take("a")
	require.False(t, ok)
	for i := range 5 {
		c.Put("a", i)
	}
	c.Put("b", 10)
	require.Equal(t, 6, c.Len())
	require.Equal(t, 5, c.LenOf("a"))

	newest, ok := c.Take("a")
	require.True(t, ok)
	require.Equal(t, 4, newest)
	c.Remove("a", 1)
	c.Remove("a", 1)
	c.Remove("c", 1)
	require.Equal(t, []int{0, 2}, c.Expire(func(i int) bool { return i < 3 }))
	require.Equal(t, 1, c.LenOf("a"))
	require.Equal(t, 2, c.Len())
	require.ElementsMatch(t, []int{3, 10}, c.Expire(func(int) bool { return true }))
	require.Zero(t, c.Len())
}

func TestOneUseAfterAnotherAllocatesNothing(t *testing.T) {
	var c idle.Connections[int]
	c.Put("a", 1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		connection, _ := c.Take("a")
		c.Put("a", connection)
	}))
}

func TestASocketIsSilentUntilSomethingComes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer near.Close()
	far, err := listener.Accept()
	require.NoError(t, err)
	raw, err := near.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	silent := func() (yes bool) {
		require.NoError(t, raw.Control(func(descriptor uintptr) { yes = idle.Silent(int(descriptor)) }))
		return yes
	}
	require.True(t, silent())
	require.NoError(t, far.Close())
	require.Eventually(t, func() bool { return !silent() }, 5*time.Second, time.Millisecond)
}
