package statemachine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/internal/fault"
)

// Size is what many files cost the state machine.
type Size struct {
	Files           int
	HeapPerFile     float64 // bytes of live heap
	CheckpointBytes int64
	Write           time.Duration // encode the checkpoint into a file in the page cache
	Load            time.Duration // read and decode it
}

// filesPerFolder keeps folders at a size that people have.
const filesPerFolder = 1000

// Measure builds a namespace of files with one chunk and three replicas each,
// and takes it through a checkpoint in a file below directory.
func Measure(files int, directory string) (Size, error) {
	size := Size{Files: files}
	machine, err := New(10, 1, nil)
	if err != nil {
		return size, err
	}
	before := liveHeap()
	if err := machine.Fill(files); err != nil {
		return size, err
	}
	if err := machine.settle(); err != nil {
		return size, err
	}
	size.HeapPerFile = (liveHeap() - before) / float64(files)

	path := filepath.Join(directory, "checkpoint")
	file, err := os.Create(path)
	if err != nil {
		return size, &fault.Error{Kind: fault.Disk, Op: "write checkpoint", Path: path, Err: err}
	}
	defer func() {
		file.Close()
		_ = os.Remove(path) // the directory is a temporary one
	}()
	start := time.Now()
	w := bufio.NewWriterSize(file, 1<<20)
	if err := machine.state.Snapshot().Encode(w); err != nil {
		return size, err
	}
	if err := w.Flush(); err != nil {
		return size, &fault.Error{Kind: fault.Disk, Op: "write checkpoint", Path: path, Err: err}
	}
	size.Write = time.Since(start)
	if size.CheckpointBytes, err = file.Seek(0, io.SeekCurrent); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return size, &fault.Error{Kind: fault.Disk, Op: "read checkpoint", Path: path, Err: err}
	}
	want := machine.Txid()
	runtime.GC() // m is not used any more: what loads has the memory for itself, as after a restart
	start = time.Now()
	loaded, err := actor.New(actor.Config{})
	if err != nil {
		return size, err
	}
	if err := loaded.ReadCheckpoint(bufio.NewReaderSize(file, 1<<20), size.CheckpointBytes); err != nil {
		return size, err
	}
	size.Load = time.Since(start)
	if loaded.Txid() != want {
		return size, fault.New(fault.Internal, "read checkpoint", "txid %d came back as %d", want, loaded.Txid())
	}
	return size, nil
}

// PathOf is the path of the i-th file of Fill.
func PathOf(i int) string { return fmt.Sprintf("%s/file-%08d", folderOf(i), i) }

func folderOf(i int) string { return fmt.Sprintf("/folder-%06d", i/filesPerFolder) }

// Fill stores files in folders of 1,000.
func (m *Machine) Fill(files int) error { return m.FillFrom(0, files) }

// FillFrom is Fill for files from the i-th on.
func (m *Machine) FillFrom(first, files int) error {
	for i := first; i < first+files; i++ {
		if i%filesPerFolder == 0 {
			if err := m.Mkdir(folderOf(i)); err != nil {
				return err
			}
		}
		if err := m.Store(PathOf(i)); err != nil {
			return err
		}
	}
	return nil
}

// liveHeap is the heap that is in use after a collection, in bytes.
func liveHeap() float64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
