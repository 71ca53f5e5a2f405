package store

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// listingName is the listing's file.
const listingName = "listing"

// settled is how old a change has to be for the next one to be sure to have another
// time: more than what any file system rounds times to.
const settled = 2 * time.Second

// Stamp says which records there are. Each one is written by a rename, so the times of
// their directories change with every one. A stamp that was taken before reading the
// records is good for what was read; it is "" while the last change is so young that
// one after it could have the same time, or where there is no store.
func (s *Store) Stamp() string {
	var b strings.Builder
	b.WriteString(s.BootID()) // which records are trusted depends on it
	for _, dir := range []string{"images", "refs", "layers", "oci/blobs/sha256", "oci/blobs/sha512"} {
		var st syscall.Stat_t
		if err := syscall.Lstat(s.path(dir), &st); err != nil {
			return ""
		}
		if age := time.Since(time.Unix(st.Mtim.Unix())); age < settled {
			return ""
		}
		_, _ = fmt.Fprintf(&b, " %d:%d:%d.%d", st.Dev, st.Ino, st.Mtim.Sec, st.Mtim.Nsec) // cannot fail (strings.Builder)
	}
	return b.String()
}

// Listing is the file that WriteListing wrote; nil without one.
func (s *Store) Listing() []byte {
	b, err := os.ReadFile(s.path(listingName))
	if err != nil {
		return nil
	}
	return b
}

// WriteListing keeps a listing.
func (s *Store) WriteListing(b []byte) error { return s.write(s.path(listingName), b, nil) }
