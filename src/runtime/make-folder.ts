/**
 * Makes a folder, with those that it lies in, under Node. Node's own way of making them all does not end where a file system
 * has no place for new folders and says that something is missing, as /proc does.
 * @throws what the file system says
 */
export function makeFolder(folder: string): void {
  const { existsSync, mkdirSync } = process.getBuiltinModule("node:fs");
  if (existsSync(folder)) return;
  const parent = process.getBuiltinModule("node:path").dirname(folder);
  if (parent !== folder) makeFolder(parent);
  try {
    mkdirSync(folder);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if (!existsSync(folder)) throw error;
  }
}
