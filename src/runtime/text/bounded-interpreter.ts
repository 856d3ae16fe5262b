/**
 * The Jinja interpreter of @huggingface/jinja with limits on steps, nesting, sizes and work, none of which it has itself.
 *
 * Every statement and expression, and so every operand, passes through `evaluate`. After each operand its size is known
 * before the operation that uses it runs, so what an operation may cost is checked before it is done. The size of a value
 * is what printing it would visit: an array that holds one large string twice has twice its size, which is what stops
 * values that double.
 */
import { InputError } from "../../ir/errors.ts";
import { type Environment, Interpreter, type RuntimeValue, type SyntaxNode } from "./jinja.ts";
import { sizeMeter } from "./template-values.ts";

export interface TemplateLimits {
  /** Expressions evaluated, loop iterations counted as well. */
  readonly steps: number;
  /** Nesting of expressions, blocks and macro calls. */
  readonly depth: number;
  /** Characters in the output, or in any value. */
  readonly size: number;
  /** Characters read and written in all. */
  readonly work: number;
}

/** What is known of the operands of a node that is being evaluated. */
interface Frame {
  readonly node: SyntaxNode;
  /** Operands so far. */
  count: number;
  /** Size of the first, largest size of the others, and the sum of all. */
  first: number;
  largest: number;
  sum: number;
  /** Length of what a block has put together so far. */
  text: number;
  /** Largest integer among the operands after the first. */
  integer: number;
  last: RuntimeValue | undefined;
}

/** A method taken from a value: whose, and which. */
interface Method {
  readonly size: number;
  readonly name: string;
}

/** A result that is not yet made may have at most this many characters; it is measured when made. */
const peakFactor = 8;
/** Searching for m characters among n takes up to n m comparisons; a unit of work is this many of them. */
const comparisonsPerUnit = 64;
/** A lookup that fails throws inside the library; a method lookup builds a table of methods. */
const slowLookupSteps = 16;
const methodSteps = 32;
/** Splitting makes objects of about seventy bytes each out of single characters; sorting compares each element so often. */
const workFactors: ReadonlyMap<string, number> = new Map([
  ["split", 16],
  ["join", 4],
  ["sort", 20],
  ["dictsort", 20],
]);
/** Nothing is computed from the size of an operand of these. */
const constantTime: ReadonlySet<string> = new Set([
  "If",
  "Ternary",
  "TestExpression",
  "UnaryExpression",
  "SelectExpression",
]);

export class BoundedInterpreter extends Interpreter {
  readonly #limits: TemplateLimits;
  readonly #sourceLength: number;
  readonly #methods = new WeakMap<RuntimeValue, Method>();
  readonly #meter: ReturnType<typeof sizeMeter>;
  #frame: Frame | undefined;
  #depth = 0;
  #steps = 0;
  #work = 0;

  constructor(environment: Environment, limits: TemplateLimits, sourceLength: number) {
    super(environment);
    this.#limits = limits;
    this.#sourceLength = sourceLength;
    this.#meter = sizeMeter(limits.size, (visits) => this.#addWork(visits));
  }

  override evaluate(statement: SyntaxNode | undefined, environment: Environment): RuntimeValue {
    if (statement === undefined) return super.evaluate(statement, environment);
    const parent = this.#frame;
    const frame: Frame = {
      node: statement,
      count: 0,
      first: 0,
      largest: 0,
      sum: 0,
      text: 0,
      integer: 0,
      last: undefined,
    };
    this.#addSteps(1);
    if (++this.#depth > this.#limits.depth) throw exceeded(`nested more than ${this.#limits.depth} deep`);
    // The library walks the whole body each time it meets a macro or a call block.
    if (isType(statement, "Macro") || isType(statement, "CallStatement")) this.#addSteps(this.#sourceLength / 4);
    this.#frame = frame;
    try {
      const value = super.evaluate(statement, environment);
      const size = this.#sizeOfResult(value, frame);
      this.#checkSize(size);
      if (parent !== undefined) this.#addOperand(parent, statement, value, size);
      return value;
    } finally {
      this.#frame = parent;
      this.#depth--;
    }
  }

  #sizeOfResult(value: RuntimeValue, frame: Frame): number {
    if (value.type === "UndefinedValue" && isType(frame.node, "Identifier")) this.#addSteps(slowLookupSteps);
    if (value.type !== "FunctionValue") return this.#meter(value).size;
    if (isType(frame.node, "MemberExpression")) {
      this.#addSteps(methodSteps);
      this.#methods.set(value, { size: frame.first, name: memberName(frame) });
    }
    return 1;
  }

  /** Called when an operand of `parent` is known and before the next is evaluated, or the operation done. */
  #addOperand(parent: Frame, node: SyntaxNode, value: RuntimeValue, size: number): void {
    const isFirst = parent.count++ === 0;
    parent.sum += size;
    if (isFirst) parent.first = size;
    else parent.largest = Math.max(parent.largest, size);
    if (!isFirst && isType(parent.node, "FilterExpression")) {
      parent.integer = Math.max(parent.integer, largestInteger(value));
    }
    parent.last = value;
    if (constantTime.has(parent.node.type)) return;
    switch (parent.node.type) {
      case "For":
        // The first operand is what is iterated over, the others are the text of the iterations.
        if (isFirst) this.#addSteps(4 * elementsOf(value));
        else this.#addText(parent, size);
        return;
      case "Set":
        return;
      case "MemberExpression":
        // Only slices copy.
        if (childType(parent.node, "property") === "SliceExpression") this.#addWork(parent.sum);
        return;
      case "BinaryExpression":
        this.#checkBinary(parent, value);
        return;
      case "FilterExpression":
      case "FilterStatement":
        this.#checkOperation(filterName(parent.node), parent.first, parent.largest, parent.integer);
        return;
      case "CallExpression":
        if (childOf(parent.node, "callee") === node) this.#checkCall(parent, value);
        else this.#addWork(size);
        return;
      default:
        this.#addText(parent, size);
    }
  }

  #checkBinary(frame: Frame, right: RuntimeValue): void {
    if (frame.count < 2) return;
    const operator = operatorOf(frame.node);
    if (operator === "and" || operator === "or") return;
    const contains = operator === "in" || operator === "not in";
    this.#addWork(contains && right.type === "StringValue" ? searchWork(frame.first, frame.largest) : frame.sum);
    // The result is measured too, but only after it exists.
    if (!contains) this.#checkSize(frame.sum);
  }

  #checkCall(frame: Frame, callee: RuntimeValue): void {
    const method = this.#methods.get(callee);
    const sizeOfArguments = Math.max(1, frame.count > 1 ? Math.max(frame.first, frame.largest) : 1);
    if (method !== undefined) this.#checkOperation(method.name, method.size, sizeOfArguments, 0);
  }

  /** An operation on a value of `size` with arguments up to `argument`. */
  #checkOperation(name: string, size: number, argument: number, integer: number): void {
    const peak = peakFactor * this.#limits.size;
    const grows = name === "replace" || name === "join";
    const indents = name === "indent" || name === "tojson";
    // tojson indents by depth, which the meter bounds.
    const growth = grows ? Math.max(1, argument) : indents ? Math.max(1, integer) * (name === "tojson" ? 8 : 1) : 1;
    if (size * growth > peak) throw exceeded(`"${name}" may make a text of more than ${peak} characters`);
    this.#addWork(size * (workFactors.get(name) ?? 1) + searchWork(size, argument));
  }

  /** Text that a block puts together. */
  #addText(frame: Frame, size: number): void {
    this.#addWork(size);
    frame.text += size;
    this.#checkSize(frame.text);
  }

  #checkSize(size: number): void {
    if (size > this.#limits.size) throw exceeded(`a text or value of more than ${this.#limits.size} characters`);
  }

  #addSteps(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#limits.steps) throw exceeded(`more than ${this.#limits.steps} steps`);
  }

  #addWork(work: number): void {
    this.#work += work;
    if (this.#work > this.#limits.work) throw exceeded(`more than ${this.#limits.work} characters of work`);
  }
}

function exceeded(what: string): InputError {
  return new InputError("chat template", what, { hint: "The template asks for more than a chat needs." });
}

function searchWork(haystack: number, needle: number): number {
  return haystack + (haystack * needle) / comparisonsPerUnit;
}

function isType(node: SyntaxNode, type: string): boolean {
  return node.type === type;
}

/** A field of a syntax node or value; undefined where there is none. */
function childOf(node: unknown, field: string): unknown {
  return typeof node === "object" && node !== null ? Reflect.get(node, field) : undefined;
}

function childType(node: unknown, field: string): unknown {
  return childOf(childOf(node, field), "type");
}

function operatorOf(node: SyntaxNode): unknown {
  return childOf(childOf(node, "operator"), "value");
}

/** `| name` or `| name(...)`. */
function filterName(node: SyntaxNode): string {
  const filter = childOf(node, "filter");
  const called = childOf(filter, "type") === "CallExpression" ? childOf(filter, "callee") : filter;
  return String(childOf(called, "value"));
}

/** `value.name`, or `value[expression]`, whose expression was evaluated last. */
function memberName(frame: Frame): string {
  if (childOf(frame.node, "computed") === true) return String(frame.last?.value);
  return String(childOf(childOf(frame.node, "property"), "value"));
}

function elementsOf(value: RuntimeValue): number {
  if (Array.isArray(value.value)) return value.value.length;
  return value.value instanceof Map ? value.value.size : 0;
}

/** The integer itself, or the largest in a container that may be spread over the arguments. */
function largestInteger({ value }: RuntimeValue): number {
  if (typeof value === "number") return Math.abs(value);
  const items: Iterable<unknown> = Array.isArray(value) ? value : value instanceof Map ? value.values() : [];
  let largest = 0;
  for (const item of items) largest = Math.max(largest, Math.abs(Number(childOf(item, "value"))) || 0);
  return largest;
}
