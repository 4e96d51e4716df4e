// What the browser keeps for the next visit: a table of names and values in IndexedDB. Without it (a private window) nothing is kept,
// and the page says so once.

const DATABASE = 'siamese-studio';
const TABLE = 'kept';

let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function run(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(TABLE, mode);
    const request = act(transaction.objectStore(TABLE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** The value with that name; undefined if there is none. */
export const load = (name) => run('readonly', (table) => table.get(name));

/** Keep a value (anything that can be cloned) under a name. */
export const save = (name, value) => run('readwrite', (table) => table.put(value, name));

/** Forget the value with that name. */
export const forget = (name) => run('readwrite', (table) => table.delete(name));

/** Forget everything. */
export const forgetAll = () => run('readwrite', (table) => table.clear());
