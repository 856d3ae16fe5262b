/** Letting other tasks of this process run: aborts, readers, the device's messages. */

/** Resolves in a later task, not merely a microtask: immediately where that exists (Node), else by a message to oneself (browsers). */
export function nextTask(): Promise<void> {
  if (typeof setImmediate === "function") return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
