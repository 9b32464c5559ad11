// What the sample of freehold.hpp stands in.
#include <freehold/freehold.hpp>

int main() {
  float sum = 0;
/* sample */
  return sum == 0 && capsule ? 0 : 1;
}
