package agent

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// isWrongUse holds for calls that this file or folder will never take.
func isWrongUse(err error) bool {
	for _, e := range []error{unix.EISDIR, unix.ENOTDIR, unix.ENOTEMPTY, unix.ELOOP, unix.ENAMETOOLONG, unix.EINVAL, unix.EXDEV, unix.EROFS, unix.EBUSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EMFILE)
}
