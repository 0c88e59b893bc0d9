package namespace

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithin(t *testing.T) {
	require.True(t, Within("/a/b", "/a") && Within("/a", "/") && Within("/a", "/a"))
	require.False(t, Within("/ab", "/a") || Within("/a", "/a/b"))
}
