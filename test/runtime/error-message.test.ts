/** Errors arrive as they were sent. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { CompilerError, InputError, InternalError, IrError, UnsupportedError } from "../../src/ir/errors.ts";
import { errorFrom, errorMessage } from "../../src/runtime/error-message.ts";

const kinds = [IrError, UnsupportedError, InputError, InternalError];

it("with their class, message and hint", () => {
  const details = fc.record({ hint: fc.string({ minLength: 1 }), text: fc.string() }, { requiredKeys: [] });
  fc.assert(
    fc.property(fc.constantFrom(...kinds), fc.string(), fc.string(), details, (Kind, where, what, more) => {
      const sent = new Kind(where, what, more);
      const received = errorFrom(structuredClone(errorMessage(sent)));
      expect(received).toBeInstanceOf(Kind);
      expect(received).toBeInstanceOf(CompilerError);
      const { message, kind, hint, name } = sent;
      expect(received).toMatchObject({ message, kind, name, where });
      expect((received as CompilerError).hint).toBe(hint); // as just expected
    }),
  );
});

it("also those that are not the library's", () => {
  const abort = errorFrom(errorMessage(new DOMException("stopped", "AbortError")));
  expect(abort).toBeInstanceOf(DOMException);
  expect(abort).toMatchObject({ name: "AbortError", message: "stopped" });
  expect(errorFrom(errorMessage(new RangeError("too long")))).toMatchObject({
    name: "RangeError",
    message: "too long",
  });
  expect(errorFrom(errorMessage("a text"))).toMatchObject({ name: "Error", message: "a text" });
});
