package client

import "time"

// SetPatience shortens how long a server may be gone.
func (c *Client) SetPatience(d time.Duration) { c.patience = d }

// StdinKept is how much of standard input is kept to be sent again.
const StdinKept = stdinKept
