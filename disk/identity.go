package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Versions of the file. Version 1 has no volumes; version 3 is written once disks were added or removed while the
// datanode ran, so that a program which would not heed that refuses it.
const (
	identityVersionFirst   = 1
	identityVersion        = 2
	identityVersionChanged = 3
)

// volumeIdentity is the identity file of a volume: JSON, for people, with a checksum, for us.
type volumeIdentity struct {
	Version      int    `json:"version"`
	NodeID       string `json:"node_id"`
	VolumeID     string `json:"volume_id"`
	ClusterID    string `json:"cluster_id"`
	HighestEpoch uint64 `json:"highest_epoch"`
	HighestTxid  uint64 `json:"highest_txid"`
	// Volumes are all volumes of the node, this one too, and removed ones.
	Volumes []volumeRecord `json:"volumes,omitempty"`
	// VolumesChange counts how often a disk was added or removed while the datanode ran: of two lists, that with the
	// higher one is true.
	VolumesChange uint64 `json:"volumes_change,omitempty"`
	// Sum is the xxh3-64, in hex, of this object encoded with an empty Sum.
	Sum string `json:"sum"`
}

// volumeRecord is what the volumes of a node know of each other, so that a start notices that one is missing.
type volumeRecord struct {
	VolumeID   string `json:"volume_id"`
	Directory  string `json:"directory"`
	MountPoint bool   `json:"mount_point"` // the directory was the root of a file system of its own
	// Added: while the datanode ran, so that the configuration need not name it. Draining: it is to be removed as soon
	// as nothing on it is needed. Removed: it is used no more, whatever the configuration says.
	Added    bool `json:"added,omitempty"`
	Draining bool `json:"draining,omitempty"`
	Removed  bool `json:"removed,omitempty"`
	// RemovedAt is when, in Unix milliseconds, unless nothing was left on it: a chunk that is older may be there.
	RemovedAt int64 `json:"removed_at,omitempty"`
}

func (v volumeIdentity) encode() []byte {
	v.Sum = v.sum()
	return append(v.plain(), '\n')
}

func (v volumeIdentity) plain() []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("encode volume identity: " + err.Error()) // strings and numbers only
	}
	return b
}

func (v volumeIdentity) sum() string {
	v.Sum = ""
	return fmt.Sprintf("%016x", xxh3.Hash(v.plain()))
}

// parseIdentity reads an identity file. Errors: fault.CorruptData, fault.Version.
func parseIdentity(b []byte) (volumeIdentity, error) {
	const op = "parse volume identity"
	var identity volumeIdentity
	if err := json.Unmarshal(b, &identity); err != nil {
		return identity, &fault.Error{Kind: fault.CorruptData, Op: op, Err: err}
	}
	switch {
	case identity.Version < identityVersionFirst || identity.Version > identityVersionChanged:
		return identity, fault.New(fault.Version, op, "identity version %d, this program knows %d to %d",
			identity.Version, identityVersionFirst, identityVersionChanged)
	case identity.Sum != identity.sum():
		return identity, fault.New(fault.CorruptData, op, "the file does not match its checksum %s", identity.Sum)
	case identity.NodeID == "" || identity.VolumeID == "":
		return identity, fault.New(fault.CorruptData, op, "no node or volume id")
	}
	return identity, nil
}

// readIdentity reads an identity file; ok is false if there is none.
func readIdentity(fsys vfs.FS, name string) (identity volumeIdentity, ok bool, err error) {
	const op = "read volume identity"
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return identity, false, nil
	}
	if err != nil {
		return identity, false, diskError(op, name, chunk.ID{}, err)
	}
	defer f.Close() // opened for reading
	b := make([]byte, identityBytesMax)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return identity, false, diskError(op, name, chunk.ID{}, err)
	}
	if identity, err = parseIdentity(b[:n]); err != nil {
		return identity, false, &fault.Error{Kind: fault.KindOf(err), Op: op, Path: name, Err: err,
			Hint: "restore the file from another volume of this node, with this volume's id"}
	}
	return identity, true, nil
}

// writeIdentity replaces an identity file. On return it is durable; on an error, the old or the new
// one is there, whole.
func writeIdentity(fsys vfs.FS, name string, v volumeIdentity) error {
	if err := vfs.WriteDurably(fsys, name, v.encode()); err != nil {
		return diskError("write volume identity", name, chunk.ID{}, err)
	}
	return nil
}

// with returns v after the store's identity became all.
func (v volumeIdentity) with(all datanode.Identity) volumeIdentity {
	if v.Version = identityVersion; v.VolumesChange > 0 {
		v.Version = identityVersionChanged
	}
	v.NodeID, v.ClusterID = all.NodeID, all.ClusterID
	v.HighestEpoch, v.HighestTxid = all.HighestEpoch, all.HighestTxid
	return v
}

// newID makes a random id (UUIDv4).
func newID(random io.Reader) (string, error) {
	id, err := uuid.NewRandomFromReader(random)
	if err != nil {
		return "", &fault.Error{Kind: fault.Internal, Op: "make id", Err: err}
	}
	return id.String(), nil
}
