package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMiniMeasuresAndLeavesNothingBehind(t *testing.T) {
	directory := t.TempDir()
	command := miniCommand()
	var out, remarks bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&remarks)
	command.SetArgs([]string{"--dir", directory, "--size", "3MiB", "--runs", "1", "--json"})
	require.NoError(t, command.ExecuteContext(t.Context()), remarks.String())
	var report struct {
		Median []struct {
			Name   string
			Ratio  float64
			Result struct{ Rate float64 }
		}
		Floors []json.RawMessage
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &report))
	require.Len(t, report.Median, 2)
	for _, m := range report.Median {
		require.Positive(t, m.Ratio, m.Name)
		require.Positive(t, m.Result.Rate, m.Name)
	}
	require.NotEmpty(t, report.Floors)
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestSizesAreChecked(t *testing.T) {
	for _, bad := range []string{"", "0", "-1", "many", "2TiB"} {
		_, err := parseSize(bad)
		require.ErrorContains(t, err, "--size", bad)
	}
	n, err := parseSize("1MiB")
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, n)
}
