// Package namespace holds the files and directories of a cluster: inodes, the
// entries of directories, and the chunks that files are made of.
//
// It owns all of that, and nobody else changes it: Tree has the inodes and the entries, Files the chunks. Edit records
// change them through methods that stamp the inode with the record's txid (Tree.Begin), requests look things up, a View
// is what a checkpoint encodes. An Observer learns of every chunk that is added, sealed, reopened or dropped.
//
// Inodes and chunks are addressed by slots, which have types of their own and last until the item is removed; records
// and checkpoints name inodes and chunks by ids. No goroutine runs here, and one at a time may use it; a View may be
// read by another. It knows no leases, no datanodes (only their indexes) and no time but that of records.
package namespace
