// Package api is the REST surface of Aetherium: the operations under /api/v1,
// the OpenAPI 3.1 document that describes every one of them, and what guards
// them. It validates and records what clients want and answers what the store
// knows. It does no work itself and never speaks with a runtime.
package api
