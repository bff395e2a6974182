// The videos that are chosen to be compared, as the address has them: their ids, percent-encoded, with commas between (pure).

// As many lines as can be told apart.
export const CHOSEN_MAX = 5;

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
};

// Each once, at most CHOSEN_MAX.
export const chosenIn = (text) => [...new Set(text.split(",").map(decoded).filter(Boolean))].slice(0, CHOSEN_MAX);

export const chosenText = (ids) => ids.map(encodeURIComponent).join(",");

// With `id`, or without it where it is among them; what it was where there is no room.
export const toggled = (text, id) => {
  const ids = chosenIn(text);
  if (ids.includes(id)) return chosenText(ids.filter((one) => one !== id));
  return ids.length < CHOSEN_MAX ? chosenText([...ids, id]) : text;
};
