package walcheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"

	"github.com/whispering-woods/ww/internal/fault"
)

// segmentFiles names the log files in dir; none if there is no dir.
func segmentFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, item := range list {
		if strings.HasSuffix(item.Name(), ".wal") {
			names = append(names, item.Name())
		}
	}
	return names, err
}

// readMeta reads raft-wal's list of segments without changing it. The
// database panics on some damage; that becomes an error.
func readMeta(dir string) (state types.PersistentState, err error) {
	path := filepath.Join(dir, metadb.FileName)
	if _, err := os.Stat(path); err != nil {
		return state, err
	}
	damaged := func(cause any) error {
		return &fault.Error{Kind: fault.CorruptData, Op: "read log",
			Reason: fmt.Sprintf("%s is damaged: %v", path, cause),
			Hint:   "restore the directory from a copy or from a peer"}
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = damaged(cause)
		}
	}()
	db, err := bbolt.Open(path, 0o644, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, bbolt.ErrTimeout) {
		return state, &fault.Error{Kind: fault.Busy, Op: "read log", Reason: path + " is in use",
			Hint: "stop the log server first"}
	}
	if err != nil {
		return state, damaged(err)
	}
	defer func() { _ = db.Close() }() // opened for reading
	err = db.View(func(tx *bbolt.Tx) error {
		bucket, stable := tx.Bucket([]byte(metadb.MetaBucket)), tx.Bucket([]byte(metadb.StableBucket))
		if bucket == nil || stable == nil {
			return errors.New("a bucket is missing")
		}
		// Touch every page that raft-wal and raft will.
		if err := stable.ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
		if raw := bucket.Get([]byte(metadb.MetaKey)); raw != nil {
			return json.Unmarshal(raw, &state)
		}
		return nil
	})
	if err != nil {
		return state, damaged(err)
	}
	return state, nil
}
