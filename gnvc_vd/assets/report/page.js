/* ---- beginning ---- */

/* What a link within the page leads to is unfolded. */
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

if ($("quality")) startCurves();
startPlayer();
window.addEventListener("hashchange", unfold);
unfold();
