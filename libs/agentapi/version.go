// Package agentapi is the contract of guest and host: the agent's services as
// Protobuf messages (agent.proto) and the version they are spoken in. Make the
// generated code anew with make generate.
package agentapi

// ProtocolVersion is what this build speaks. A change that an older side cannot
// read raises it; added fields and calls do not.
const ProtocolVersion = 1

// MaxChunk is the most bytes of data that one streamed message carries.
const MaxChunk = 64 << 10

// MaxMessage is the most bytes that either side reads as one message.
const MaxMessage = 4 << 20
