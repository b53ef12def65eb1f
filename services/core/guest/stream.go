package guest

import (
	"errors"
	"io"

	"github.com/aetherium/aetherium/libs/agentapi"
)

// sourceError is a fault of what a call sends, not of the call: the caller's
// own, to be told as it is.
type sourceError struct{ error }

func sourceFailed(err error) error {
	var s sourceError
	if errors.As(err, &s) {
		return s.error
	}
	return nil
}

// sendAll sends a reader's bytes in pieces. An error of send is not told here:
// the call's answer says why it was refused.
func sendAll(r io.Reader, send func([]byte) error) error {
	buf := make([]byte, agentapi.MaxChunk)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if sendErr := send(append([]byte(nil), buf[:n]...)); sendErr != nil {
				return sendErr
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return sourceError{err}
		}
	}
}
