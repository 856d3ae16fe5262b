/** SavedModels against a reader of our own and, where TensorFlow.js for Node is installed, against its generated one. */
import { createRequire } from "node:module";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Attr,
  encodeSavedModel,
  type SavedModel,
  type TfType,
  tfTypes,
} from "../../../src/backends/tfjs/saved-model.ts";
import { readSavedModel } from "./read-graph.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

const name = fc.stringMatching(/^[A-Za-z.][A-Za-z0-9_./-]{0,8}$/).filter((text) => text !== "__proto__");
const type = fc.constantFrom(...(Object.keys(tfTypes) as TfType[])); // the keys of the table
const shape = fc.array(fc.oneof(fc.nat({ max: 300 }), fc.constant(2 ** 40)), { maxLength: 4 });
const attr: fc.Arbitrary<Attr> = fc.oneof(
  fc.record({ kind: fc.constant("type" as const), type }),
  fc.record({ kind: fc.constant("int" as const), value: fc.maxSafeInteger() }),
  fc.record({ kind: fc.constant("bool" as const), value: fc.boolean() }),
  fc.record({ kind: fc.constant("float" as const), value: fc.float({ noNaN: true }) }),
  fc.record({ kind: fc.constant("text" as const), value: fc.string() }),
  fc.record({ kind: fc.constant("shape" as const), shape }),
  fc.record({ kind: fc.constant("none" as const) }),
  fc.record({
    kind: fc.constant("tensor" as const),
    tensor: fc.record({ type, shape, content: fc.uint8Array({ maxLength: 20 }) }),
  }),
);
const info = fc.record({ name, type, shape });
const infos = fc.dictionary(name, info, { maxKeys: 3 });
const model: fc.Arbitrary<SavedModel> = fc.record({
  nodes: fc.array(
    fc.record({
      name,
      op: name,
      inputs: fc.array(name, { maxLength: 3 }),
      attrs: fc.dictionary(name, attr, { maxKeys: 4 }),
    }),
    { maxLength: 5 },
  ),
  signatures: fc.dictionary(name, fc.record({ inputs: infos, outputs: infos }), { maxKeys: 3 }),
});

/** Without prototypes and with plain arrays of bytes, so that only content is compared. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? [...each] : Object.is(each, -0) ? "-0" : each)),
  );
}

test("what is written reads back", () => {
  fc.assert(
    fc.property(model, (written) => {
      expect(plain(readSavedModel(encodeSavedModel(written)))).toEqual(plain(written));
    }),
  );
});

test("equal models are equal bytes, whatever the order of names", () => {
  const attrs: Record<string, Attr> = { T: { kind: "type", type: "float" }, N: { kind: "int", value: 0 } };
  const turned = Object.fromEntries(Object.entries(attrs).reverse());
  const write = (each: Record<string, Attr>) =>
    encodeSavedModel({ nodes: [{ name: "a", op: "Op", inputs: [], attrs: each }], signatures: {} });
  expect(write(turned)).toEqual(write(attrs));
});

/** What is used of the messages that the package was built with. */
interface Generated {
  readonly SavedModel: {
    readonly deserializeBinary: (bytes: Uint8Array) => {
      readonly toObject: () => unknown;
      readonly serializeBinary: () => Uint8Array;
    };
  };
}

describe.skipIf(tensorFlowFolder === null)("with TensorFlow.js for Node", () => {
  const messages = (): Generated => {
    const require = createRequire(join(tensorFlowFolder!, "script.cjs"));
    return require("@tensorflow/tfjs-node/dist/proto/api_pb.js");
  };

  test("its reader finds every node, attribute and signature", () => {
    const bytes = encodeSavedModel({
      nodes: [
        {
          name: "x",
          op: "Placeholder",
          inputs: [],
          attrs: { dtype: { kind: "type", type: "float" }, shape: { kind: "shape", shape: [2, 3] } },
        },
        {
          name: "y",
          op: "Any",
          inputs: ["x", "^x"],
          attrs: { keep_dims: { kind: "bool", value: false }, n: { kind: "int", value: -7 } },
        },
        {
          name: "c",
          op: "Const",
          inputs: [],
          attrs: {
            value: { kind: "tensor", tensor: { type: "int32", shape: [1], content: Uint8Array.of(5, 0, 0, 0) } },
          },
        },
      ],
      signatures: { step: { inputs: { x: { name: "x:0", type: "float", shape: [2, 3] } }, outputs: {} } },
    });
    const read = JSON.stringify(messages().SavedModel.deserializeBinary(bytes).toObject());
    for (const part of [
      '"name":"x"',
      '"op":"Placeholder"',
      '"inputList":["x","^x"]',
      '"tagsList":["serve"]',
      '"i":-7',
      '"producer":1087',
      '"tensorContent":"BQAAAA=="',
      '"name":"x:0"',
    ])
      expect(read).toContain(part);
  });

  test("what it reads and writes again says the same", () => {
    fc.assert(
      fc.property(model, (written) => {
        const again = messages().SavedModel.deserializeBinary(encodeSavedModel(written)).serializeBinary();
        expect(plain(readSavedModel(again))).toEqual(plain(readSavedModel(encodeSavedModel(written))));
      }),
      { numRuns: 30 },
    );
  });
});
