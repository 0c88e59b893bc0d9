package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// kindCodes is the one table of fault kinds and gRPC codes. The codes serve
// foreign clients and tools; our own read the kind from the detail.
var kindCodes = [...]codes.Code{
	fault.Invalid:         codes.InvalidArgument,
	fault.NotFound:        codes.NotFound,
	fault.Exists:          codes.AlreadyExists,
	fault.NotDirectory:    codes.FailedPrecondition,
	fault.IsDirectory:     codes.FailedPrecondition,
	fault.NotEmpty:        codes.FailedPrecondition,
	fault.LeaseHeld:       codes.FailedPrecondition,
	fault.LeaseLost:       codes.Aborted,
	fault.SafeMode:        codes.Unavailable,
	fault.TooFewNodes:     codes.ResourceExhausted,
	fault.StaleGeneration: codes.FailedPrecondition,
	fault.NotActive:       codes.Unavailable,
	fault.Fenced:          codes.Aborted,
	fault.Gap:             codes.OutOfRange,
	fault.Busy:            codes.ResourceExhausted,
	fault.CorruptData:     codes.DataLoss,
	fault.Unavailable:     codes.Unavailable,
	fault.Version:         codes.Unimplemented,
	fault.Disk:            codes.Internal,
	fault.NoSpace:         codes.ResourceExhausted,
	fault.Protocol:        codes.InvalidArgument,
	fault.Internal:        codes.Internal,
	fault.Closed:          codes.Unavailable,
}

// codeOf is the gRPC code of a kind; Unknown for a number outside the table.
func codeOf(kind fault.Kind) codes.Code {
	if int(kind) >= len(kindCodes) || kind == 0 {
		return codes.Unknown
	}
	return kindCodes[kind]
}

// ToStatus turns err into a gRPC status error that carries every field of the outermost *fault.Error in its chain.
// The cause cannot travel as a value: its text joins the reason. Texts are cut at 4 KiB and made valid UTF-8,
// because protobuf refuses anything else. Context errors become Canceled and DeadlineExceeded; an error of no kind
// becomes fault.Internal; nil stays nil and a status error stays as it is.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if !errors.As(err, &known) {
		if _, ok := status.FromError(err); ok {
			return err
		}
		switch kind := fault.KindOf(err); {
		case kind != 0:
			known = &fault.Error{Kind: kind, Reason: err.Error()}
		case errors.Is(err, context.Canceled):
			return status.Error(codes.Canceled, err.Error())
		case errors.Is(err, context.DeadlineExceeded):
			return status.Error(codes.DeadlineExceeded, err.Error())
		default:
			known = &fault.Error{Kind: fault.Internal, Reason: err.Error()}
		}
	}
	st, detailErr := status.New(codeOf(known.Kind), clean(err.Error())).WithDetails(detailOf(known, err))
	if detailErr != nil { // only a message that does not marshal; clean rules that out
		return status.Error(codeOf(known.Kind), clean(err.Error()))
	}
	return st.Err()
}

// detailOf copies e, which outer wraps, into its wire form.
func detailOf(known *fault.Error, outer error) *controlpb.ErrorDetail {
	reason := known.Reason
	if known.Err != nil {
		if reason == "" {
			reason = known.Kind.String()
		}
		reason += ": " + known.Err.Error()
	}
	operation := known.Op
	// What fmt.Errorf put in front of the fault is put in front of the operation.
	if prefix, ok := strings.CutSuffix(outer.Error(), known.Error()); ok && prefix != "" {
		operation = strings.TrimSuffix(prefix+known.Op, ": ")
	}
	detail := &controlpb.ErrorDetail{
		Kind:      controlpb.ErrorKind(known.Kind),
		Operation: clean(operation),
		Path:      clean(known.Path),
		Chunk:     clean(known.Chunk),
		Node:      clean(known.Node),
		Address:   clean(known.Address),
		Reason:    clean(reason),
		Hint:      clean(known.Hint),
		Holder:    clean(known.Holder),
	}
	if !known.Since.IsZero() {
		detail.SinceUnixMs = known.Since.UnixMilli()
	}
	return detail
}

// clean makes s valid UTF-8 of at most textBytesMax bytes.
func clean(text string) string {
	const mark = "…"
	if len(text) > textBytesMax {
		text = text[:textBytesMax-len(mark)]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		if len(text) > 0 && text[len(text)-1] >= utf8.RuneSelf { // the start of a cut rune
			text = text[:len(text)-1]
		}
		text += mark
	}
	// A replaced byte grows to three, at most three times the bound.
	return strings.ToValidUTF8(text, "\uFFFD")
}

// FromStatus turns what a gRPC call returned into a *fault.Error. A detail of ours is restored field by field, with
// op and address filled in where the server left them empty. Anything else is a failure of the transport or of a
// foreign server: it becomes fault.Unavailable (or Version, Invalid, Internal) with the address and a reason in
// words. A call that the caller cancelled is fault.Closed and matches context.Canceled; one that ran out of time is
// fault.Unavailable and matches context.DeadlineExceeded; io.EOF is fault.Unavailable and matches io.EOF. nil stays
// nil, and a *fault.Error stays as it is.
func FromStatus(err error, op, address string) error {
	if err == nil {
		return nil
	}
	var e *fault.Error
	if errors.As(err, &e) {
		return err
	}
	unavailable := func(reason string, cause error) *fault.Error {
		return &fault.Error{Kind: fault.Unavailable, Op: op, Address: address, Reason: reason, Err: cause}
	}
	switch {
	case errors.Is(err, io.EOF):
		return unavailable("the server ended the stream", io.EOF)
	case errors.Is(err, context.Canceled):
		return &fault.Error{Kind: fault.Closed, Op: op, Address: address, Reason: "cancelled by the caller",
			Err: context.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable("no answer in time", context.DeadlineExceeded)
	}
	st, ok := status.FromError(err)
	if !ok {
		return unavailable("", err)
	}
	for _, detail := range st.Details() {
		if d, ok := detail.(*controlpb.ErrorDetail); ok {
			return faultOf(d, op, address)
		}
	}
	return transportFault(st, op, address)
}

// faultOf rebuilds the server's fault. A kind that this build does not know keeps its number.
func faultOf(detail *controlpb.ErrorDetail, op, address string) *fault.Error {
	known := &fault.Error{
		Kind:    fault.Internal,
		Op:      detail.Operation,
		Path:    detail.Path,
		Chunk:   detail.Chunk,
		Node:    detail.Node,
		Address: detail.Address,
		Reason:  detail.Reason,
		Hint:    detail.Hint,
		Holder:  detail.Holder,
	}
	if detail.Kind > 0 && detail.Kind <= 255 {
		known.Kind = fault.Kind(detail.Kind)
	}
	if detail.SinceUnixMs != 0 {
		known.Since = time.UnixMilli(detail.SinceUnixMs)
	}
	if known.Op == "" {
		known.Op = op
	}
	if known.Address == "" {
		known.Address = address
	}
	return known
}
