package logserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// identityName is the file that says whose directory this is.
const identityName = "node.json"

// identity is its content.
type identity struct {
	Format int    `json:"format"`
	NodeID string `json:"node_id"`
}

// claim checks that dir belongs to nodeID, or makes it so, durably, if it has no owner yet. An empty nodeID means
// what is there, or "log1". Errors: fault.Invalid for another server's directory.
func claim(dir, nodeID string) (string, error) {
	const op = "open log directory"
	path := filepath.Join(dir, identityName)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		var id identity
		if err := json.Unmarshal(raw, &id); err != nil || id.NodeID == "" {
			return "", &fault.Error{Kind: fault.CorruptData, Op: op, Path: path, Reason: "the file is damaged",
				Err: err}
		}
		if id.Format != 1 {
			return "", &fault.Error{Kind: fault.Version, Op: op, Path: path,
				Reason: fmt.Sprintf("format %d; this build knows format 1", id.Format)}
		}
		if nodeID != "" && nodeID != id.NodeID {
			return "", &fault.Error{Kind: fault.Invalid, Op: op, Path: dir,
				Reason: fmt.Sprintf("the directory belongs to log server %q, not to %q", id.NodeID, nodeID)}
		}
		return id.NodeID, nil
	case !errors.Is(err, os.ErrNotExist):
		return "", vfs.FaultOf(op, err)
	}
	if _, err := os.Stat(filepath.Join(dir, walcheck.Directory)); err == nil {
		return "", &fault.Error{Kind: fault.CorruptData, Op: op, Path: path,
			Reason: "the file is missing, but the directory holds a log"}
	}
	if nodeID == "" {
		nodeID = nodeIDDefault
	}
	raw, err = json.Marshal(identity{Format: 1, NodeID: nodeID})
	if err != nil {
		return "", &fault.Error{Kind: fault.Internal, Op: op, Err: err}
	}
	if err := vfs.WriteDurably(vfs.OS{}, path, append(raw, '\n')); err != nil {
		return "", vfs.FaultOf(op, err)
	}
	return nodeID, nil
}
