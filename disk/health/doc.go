// Package health decides whether a volume is in service. It counts the errors of a volume's file system,
// watches how long its operations take, and stands between the chunk store and the disk (FS): once a volume
// is out of service nothing is asked of its disk any more, so that nobody waits for a dead disk, and nothing
// is written to the empty directory below a disk that was unmounted.
//
// It owns no goroutine: whoever owns the volume calls Check now and then. What a loss means for replicas is
// the chunk store's business.
package health
