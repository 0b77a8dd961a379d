// The bounded string functions, and the half of opdev/fp16_t.h.
#include <cstring>

#include "aclnn/opdev/fp16_t.h"
#include "check.h"
#include "securec.h"

TEST(memory) {
  char to[8] = "1234567";
  CHECK_EQ(memcpy_s(to, 8, "abc", 3), 0);
  CHECK(std::strcmp(to, "abc4567") == 0);
  CHECK_EQ(memcpy_s(to, 4, "abcdef", 5), ERANGE);
  CHECK(to[0] == 0 && to[3] == 0 && to[4] == '5');
  CHECK_EQ(memcpy_s(nullptr, 8, "a", 1), EINVAL);
  CHECK_EQ(memcpy_s(to, 0, "a", 1), EINVAL);
  CHECK_EQ(memcpy_s(to, 8, nullptr, 1), EINVAL);
  CHECK_EQ(memcpy_s(to, SIZE_MAX, "a", 1), EINVAL);
  std::strcpy(to, "abcdef");
  CHECK_EQ(memmove_s(to + 1, 7, to, 5), 0);
  CHECK(std::strcmp(to, "aabcde") == 0);
  CHECK_EQ(memset_s(to, 8, 'z', 3), 0);
  CHECK(std::strncmp(to, "zzzc", 4) == 0);
  CHECK_EQ(memset_s(to, 8, 'y', 9), ERANGE);
}

TEST(strings) {
  char to[8];
  CHECK_EQ(strcpy_s(to, 8, "abcdefg"), 0);
  CHECK_EQ(strcpy_s(to, 8, "abcdefgh"), ERANGE);
  CHECK_EQ(to[0], '\0');
  CHECK_EQ(strcpy_s(to, 8, nullptr), EINVAL);
  CHECK_EQ(strncpy_s(to, 8, "abcdefghij", 3), 0);
  CHECK(std::strcmp(to, "abc") == 0);
  CHECK_EQ(strcat_s(to, 8, "defg"), 0);
  CHECK(std::strcmp(to, "abcdefg") == 0);
  CHECK_EQ(strcat_s(to, 8, "h"), ERANGE);
  CHECK_EQ(strcpy_s(to, 8, "ab"), 0);
  CHECK_EQ(strncat_s(to, 8, "cdefghijk", 2), 0);
  CHECK(std::strcmp(to, "abcd") == 0);
  char text[] = "a,b,,c", *rest = nullptr;
  CHECK(std::strcmp(strtok_s(text, ",", &rest), "a") == 0);
  CHECK(std::strcmp(strtok_s(nullptr, ",", &rest), "b") == 0);
  CHECK(std::strcmp(strtok_s(nullptr, ",", &rest), "c") == 0);
  CHECK(strtok_s(nullptr, ",", &rest) == nullptr);
}

TEST(printing) {
  char to[8];
  CHECK_EQ(sprintf_s(to, 8, "%d-%s", 12, "abc"), 6);
  CHECK(std::strcmp(to, "12-abc") == 0);
  CHECK_EQ(sprintf_s(to, 8, "%s", "much too long"), -1);
  CHECK_EQ(to[0], '\0');
  CHECK_EQ(snprintf_s(to, 8, 3, "%s", "abcdef"), -1);
  CHECK(std::strcmp(to, "abc") == 0);
  CHECK_EQ(snprintf_s(to, 8, 7, "%s", "abcdef"), 6);
  CHECK_EQ(snprintf_s(to, 8, 8, "%s", "a"), -1);
  CHECK_EQ(sprintf_s(nullptr, 8, "a"), -1);
}

TEST(scanning) {
  int number = 0;
  float real = 0;
  char word[8], letter;
  CHECK_EQ(sscanf_s("12 abc 1.5", "%d %s %f", &number, word, sizeof word, &real), 3);
  CHECK(number == 12 && std::strcmp(word, "abc") == 0 && real == 1.5f);
  CHECK_EQ(sscanf_s("12 abcdefghij", "%d %s", &number, word, sizeof word), 1);
  CHECK_EQ(word[0], '\0');
  CHECK_EQ(sscanf_s("x=5%", "%c=%d%%", &letter, sizeof letter, &number), 2);
  CHECK(letter == 'x' && number == 5);
  CHECK_EQ(sscanf_s("abc123", "%[a-z]%*1d%d", word, sizeof word, &number), 2);
  CHECK(std::strcmp(word, "abc") == 0 && number == 23);
  CHECK_EQ(sscanf_s("", "%d", &number), EOF);
  CHECK_EQ(sscanf_s(nullptr, "%d", &number), -1);
}

TEST(halves_behave_like_numbers) {
  using op::fp16_t;
  const fp16_t one(uint16_t{0x3C00}), two = 2, third = 1.0f / 3;
  CHECK_EQ(static_cast<float>(one + two), 3.0f);
  CHECK_EQ((one - two).val, 0xBC00);
  CHECK_EQ((one / fp16_t(3)).val, third.val);
  CHECK(one < two && one != two && -one < one);
  CHECK_EQ(fp16_t(1e9).val, 0x7C00);  // operators' halves follow IEEE
  CHECK(std::isnan(fp16_t(NAN)) && !std::isnan(one) && fp16_t(1e9).IsInf());
  CHECK_EQ(static_cast<float>(std::abs(fp16_t(-2.5))), 2.5f);
  CHECK_EQ(fp16_t(-7.9f).toInt8(), -7);
  fp16_t sum = 0;
  for (int i = 0; i < 4096; ++i) sum += one;
  CHECK_EQ(sum.toFloat(), 2048.0f);  // the next half is 2050
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const fp16_t half(static_cast<uint16_t>(bits));
    wrong += !std::isnan(half) && fp16_t(half.toFloat()).val != bits;
  }
  CHECK_EQ(wrong, 0);
}

TEST_MAIN()
