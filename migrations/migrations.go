// Package migrations holds the database schema's steps, as plain SQL for each
// database, in goose's form.
package migrations

import "embed"

// FS has a folder for each database: postgres and sqlite.
//
//go:embed postgres/*.sql sqlite/*.sql
var FS embed.FS
