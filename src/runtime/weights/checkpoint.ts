/**
 * A checkpoint: the tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names, by name.
 * Opening reads headers only; reading a tensor reads that tensor's bytes only.
 */
import { didYouMean, InputError, showValue, UnsupportedError } from "../../ir/errors.ts";
import type { Tensor, TensorData } from "../../ir/tensor.ts";
import { type DType, type Shape, type TensorType, tensorType } from "../../ir/types.ts";
import type { StoredTensor } from "../../ir/weight.ts";
import { isPlainFileName, type ModelFolder } from "./byte-source.ts";
import { openFilePool } from "./file-pool.ts";
import { asObject, asText, parseJsonObject } from "./json.ts";
import { type ElementRange, readElements, readSafetensorsHeader, readTensor, type TensorEntry } from "./safetensors.ts";

export const singleFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";
/** DeepSeek-V3's index, with 91,991 tensors, has 8.9 MB. */
export const maxIndexBytes = 64_000_000;
const maxShards = 4096;

export interface CheckpointTensor {
  readonly dtype: DType;
  readonly shape: Shape;
  /** Length in the file. */
  readonly bytes: number;
  readonly file: string;
}

export interface Checkpoint {
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** @throws InputError when there is no such tensor, with the nearest name. */
  read(name: string): Promise<Tensor>;
  /** What there is under this name. @throws InputError as `read` */
  find(name: string): CheckpointTensor;
  /** Some elements of a tensor, read into `into`, which has their length. @throws InputError as `read` */
  readInto(name: string, range: ElementRange, into: TensorData): Promise<void>;
  /** Where a tensor is, for who reads files without us; null where it is in none, or not as it is given here. */
  locate(name: string): StoredTensor | null;
  close(): Promise<void>;
}

/** The types of its tensors by name. */
export function headersOf({ tensors }: Checkpoint): ReadonlyMap<string, TensorType> {
  return new Map([...tensors].map(([name, { dtype, shape }]) => [name, tensorType(dtype, shape)]));
}

type Located = TensorEntry & { readonly file: string; readonly fileBytes: number };

function storedTensor({ dtype, shape, offset, fileBytes, format }: Located, path: string): StoredTensor | null {
  return format === "I64" ? null : { type: tensorType(dtype, shape), path, offset, fileBytes };
}

/** Whether a folder has weights, or a list of their files. */
export async function hasWeights(folder: ModelFolder): Promise<boolean> {
  return (await folder.has(singleFile)) || folder.has(indexFile);
}

/** Opens and checks a folder's weights. @throws InputError, UnsupportedError */
export async function openCheckpoint(folder: ModelFolder): Promise<Checkpoint> {
  const files = openFilePool(folder);
  try {
    const tensors = await locateTensors(folder, async (file) => {
      return files.use(file, async (source) => {
        const { tensors } = await readSafetensorsHeader(source, file);
        return new Map([...tensors].map(([name, entry]) => [name, { ...entry, file, fileBytes: source.size }]));
      });
    });
    const find = (name: string): Located => {
      const entry = tensors.get(name);
      if (entry === undefined) throw missingTensor(folder, name, tensors);
      return entry;
    };
    return {
      tensors,
      find,
      read: async (name) => {
        const entry = find(name);
        return files.use(entry.file, (source) => readTensor(source, entry, entry.file));
      },
      readInto: async (name, range, into) => {
        const entry = find(name);
        await files.use(entry.file, (source) => readElements(source, entry, entry.file, range, into));
      },
      locate: (name) => {
        const entry = tensors.get(name);
        const path = entry === undefined ? undefined : folder.pathOf?.(entry.file);
        return entry === undefined || path === undefined ? null : storedTensor(entry, path);
      },
      close: () => files.close(),
    };
  } catch (error) {
    await files.close();
    throw error;
  }
}

/**
 * The checked `weight_map` of an index file: for each shard, the tensors it should hold.
 * @throws InputError when a shard is not the plain name of a safetensors file.
 */
export function parseIndex(text: string, where: string): ReadonlyMap<string, readonly string[]> {
  const map = asObject(parseJsonObject(text, where).get("weight_map"), `${where} weight_map`);
  const shards = new Map<string, string[]>();
  for (const [name, value] of map) {
    const field = `${where} weight_map ${showValue(name)}`;
    const file = asText(value, field);
    if (!isPlainFileName(file) || !file.endsWith(".safetensors")) {
      throw new InputError(field, `${showValue(file)} is not the plain name of a .safetensors file`);
    }
    const names = shards.get(file);
    if (names === undefined) shards.set(file, [name]);
    else names.push(name);
  }
  if (shards.size > maxShards) throw new InputError(where, `${shards.size} shards: expected at most ${maxShards}`);
  return shards;
}

async function locateTensors(
  folder: ModelFolder,
  readHeader: (file: string) => Promise<ReadonlyMap<string, Located>>,
): Promise<ReadonlyMap<string, Located>> {
  if (await folder.has(singleFile)) return readHeader(singleFile);
  const located = new Map<string, Located>();
  if (!(await folder.has(indexFile))) throw await noWeights(folder);
  const shards = parseIndex(await folder.readText(indexFile, maxIndexBytes), indexFile);
  for (const [file, names] of shards) {
    if (!(await folder.has(file))) {
      throw new InputError(file, `no such file in ${folder.name}, but ${indexFile} names it`, {
        hint: "Download the missing shard.",
      });
    }
    const entries = await readHeader(file);
    for (const name of names) {
      const entry = entries.get(name);
      if (entry === undefined) {
        throw new InputError(file, `has no tensor ${showValue(name)}, which ${indexFile} places there`);
      }
      located.set(name, entry);
    }
  }
  return located;
}

function missingTensor(folder: ModelFolder, name: string, tensors: ReadonlyMap<string, unknown>): InputError {
  const hint = didYouMean(name, tensors.keys());
  return new InputError(
    folder.name,
    `the checkpoint has no tensor ${showValue(name)}`,
    hint === undefined ? {} : { hint },
  );
}

async function noWeights(folder: ModelFolder): Promise<InputError | UnsupportedError> {
  for (const file of ["pytorch_model.bin", "pytorch_model.bin.index.json"]) {
    if (!(await folder.has(file))) continue;
    // A pickle runs code of its author's choosing when it is read.
    return new UnsupportedError(folder.name, `weights in pickle files (${file})`, {
      hint: "Convert them to safetensors first.",
    });
  }
  return new InputError(folder.name, `no weights: expected ${singleFile} or ${indexFile}`);
}
