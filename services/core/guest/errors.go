package guest

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/aetherium/aetherium/libs/types"
)

// kinds is what the agent's codes mean here.
var kinds = map[connect.Code]types.Kind{
	connect.CodeInvalidArgument:    types.KindInvalid,
	connect.CodeOutOfRange:         types.KindInvalid,
	connect.CodeNotFound:           types.KindNotFound,
	connect.CodeAlreadyExists:      types.KindConflict,
	connect.CodeFailedPrecondition: types.KindConflict,
	connect.CodePermissionDenied:   types.KindConflict,
	connect.CodeResourceExhausted:  types.KindExhausted,
	connect.CodeUnavailable:        types.KindUnavailable,
	connect.CodeAborted:            types.KindUnavailable,
	connect.CodeUnimplemented:      types.KindUnsupported,
	connect.CodeDeadlineExceeded:   types.KindTimeout,
	connect.CodeCanceled:           types.KindCanceled,
	connect.CodeUnknown:            types.KindUnavailable, // a broken connection, mostly
}

// typed gives an error of a call its kind.
func typed(doing string, err error) error {
	if err == nil {
		return nil
	}
	var call *connect.Error
	if !errors.As(err, &call) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if _, ok := errors.AsType[*types.Error](err); ok {
			return err
		}
		return types.Errorf(types.KindUnavailable, "%s: %w", doing, err)
	}
	kind, ok := kinds[call.Code()]
	if !ok {
		kind = types.KindInternal
	}
	return &types.Error{Kind: kind, Message: doing + ": " + clean(call.Message())}
}
