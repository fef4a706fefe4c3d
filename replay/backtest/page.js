// Tooltips, a line under the pointer, sorting by column, and the search field of a backtest report.
'use strict';
const tip = document.getElementById('tip');
document.addEventListener('mousemove', event => {
  const found = event.target.closest('[data-tip]');
  tip.style.display = found ? 'block' : 'none';
  if (found) {
    tip.textContent = found.dataset.tip;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
    const below = event.clientY + 18;
    tip.style.top = (below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below) + 'px';
  }
});
for (const time of document.querySelectorAll('.time')) {
  const cross = document.createElement('div');
  cross.className = 'cross';
  time.append(cross);
  time.addEventListener('mousemove', event => {
    const lane = time.querySelector('.lane > div').getBoundingClientRect();
    const inside = event.clientX >= lane.left && event.clientX <= lane.right;
    cross.style.display = inside ? 'block' : 'none';
    cross.style.left = (event.clientX - time.getBoundingClientRect().left) + 'px';
  });
  time.addEventListener('mouseleave', () => { cross.style.display = 'none'; });
}
for (const head of document.querySelectorAll('th.sortable')) head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], column = head.cellIndex, down = head.dataset.down !== 'yes';
  head.dataset.down = down ? 'yes' : 'no';
  const key = row => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
  const order = (a, b) => { const x = key(a), y = key(b), n = x - y; return isNaN(n) ? x.localeCompare(y) : n; };
  [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)).forEach(row => body.append(row));
});
for (const find of document.querySelectorAll('.find')) find.addEventListener('input', () => {
  for (const row of document.querySelectorAll('[data-rule]'))
    row.style.display = row.dataset.rule.includes(find.value.trim().toLowerCase()) ? '' : 'none';
});
